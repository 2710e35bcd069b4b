"""Means over seeds with their 95 % intervals, by Student's t."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.95


@dataclass(frozen=True)
class Mean:
    """The mean of n values and half the width of its 95 % interval; that is nan of a single value."""

    value: float
    half: float
    n: int

    @property
    def low(self) -> float:
        return self.value - self.half

    @property
    def high(self) -> float:
        return self.value + self.half


def mean(values: Sequence[float]) -> Mean:
    """m ± t · s / √n, with s the sample's standard deviation (n − 1) and t of n − 1 degrees of freedom."""
    n = len(values)
    if n == 0:
        return Mean(math.nan, math.nan, 0)
    m = math.fsum(values) / n
    if n == 1:
        return Mean(m, math.nan, 1)
    s = math.sqrt(math.fsum((v - m) ** 2 for v in values) / (n - 1))
    return Mean(m, quantile(LEVEL, n - 1) * s / math.sqrt(n), n)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Mean:
    """The mean of first minus second over the seeds that both have."""
    return mean([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def quantile(level: float, freedom: int) -> float:
    """t with P(|T| ≤ t) = level, for T of Student's distribution."""
    low, high = 0.0, 1.0
    while probability(high, freedom) < level:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if probability(middle, freedom) < level else (low, middle)
    return high


def probability(t: float, freedom: int) -> float:
    """P(|T| ≤ t), the finite series for whole degrees of freedom (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    theta = math.atan(t / math.sqrt(freedom))
    odd, cos2 = freedom % 2, math.cos(theta) ** 2
    term = math.cos(theta) if odd else 1.0
    total = 0.0
    for i in range(1 + odd, freedom, 2):  # of freedom 1 there is no term
        total += term
        term *= cos2 * i / (i + 1)
    if odd:
        return 2 / math.pi * (theta + math.sin(theta) * total)
    return math.sin(theta) * total
