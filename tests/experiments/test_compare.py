"""The paired difference of two nets on the same records."""

import numpy as np
import pytest

from crnn.experiments.compare import difference


def nets(both: int, first: int, second: int, neither: int):
    """bool [N] of two nets, from how many records both, one or neither have right."""
    a = np.repeat([True, True, False, False], [both, first, second, neither])
    b = np.repeat([True, False, True, False], [both, first, second, neither])
    return a, b


def test_interval_of_paired_shares():
    d = difference(*nets(80, 9, 4, 7))
    assert (d.value, d.first_only, d.second_only) == (0.05, 9, 4)
    half = 1.96 * np.sqrt(0.09 + 0.04 - 0.05**2) / 10  # Var of (first - second) a record, over n = 100
    assert (d.low, d.high) == pytest.approx((0.05 - half, 0.05 + half), abs=1e-5)


def test_exact_mcnemar():
    assert difference(*nets(0, 9, 4, 0)).p == pytest.approx(0.26684570, abs=1e-8)  # 2 · P(Bin(13, ½) ≤ 4)
    assert difference(*nets(5, 6, 0, 5)).p == pytest.approx(2 / 64)


def test_equal_nets_differ_by_nothing():
    d = difference(*nets(5, 0, 0, 5))
    assert (d.value, d.low, d.high, d.p) == (0, 0, 0, 1)


def test_many_differing_records_do_not_overflow():
    assert 0 < difference(*nets(0, 10_400, 9_600, 0)).p < 1e-6
