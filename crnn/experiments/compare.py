"""Whether one net is better than another on the same records."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Difference:
    """The accuracy of a first net minus that of a second, as shares of 1.

    low, high: the 95 % interval.    first_only, second_only: how many records only this net has right.
    p: exact McNemar test, two-sided: how likely so uneven a split of these records is between equal nets.
    """

    value: float
    low: float
    high: float
    first_only: int
    second_only: int
    p: float


def difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compares two nets by `first` and `second`, bool [N]: which of the same N records each has right.

    The interval is the normal one for paired shares: only the records on which the nets differ bring
    variance. It tells how well N records decide between these two nets, not how other random seeds would do.
    """
    n, b, c = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    value = (b - c) / n
    half = 1.959964 * math.sqrt(b + c - (b - c) ** 2 / n) / n
    return Difference(value, value - half, value + half, b, c, _mcnemar(b, c))


def _mcnemar(b: int, c: int) -> float:
    """Two-sided tail of Binomial(b + c, 1/2), in exact integers."""
    term = tail = 1  # (b + c choose i), and the sum up to it
    for i in range(min(b, c)):
        term = term * (b + c - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2 ** (b + c))
