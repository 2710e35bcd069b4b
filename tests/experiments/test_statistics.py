"""Student's t and the intervals made of it, against printed tables and a hand computation."""

import math

import pytest

from crnn.experiments.statistics import mean, paired, quantile


@pytest.mark.parametrize(
    ("freedom", "t"),  # the usual table, two-sided 95 %
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (9, 2.262), (10, 2.228), (30, 2.042)],
)
def test_quantiles_are_the_tables(freedom, t):
    assert quantile(0.95, freedom) == pytest.approx(t, abs=5e-4)


def test_other_levels():
    assert quantile(0.99, 4) == pytest.approx(4.604, abs=5e-4)
    assert quantile(0.5, 1) == pytest.approx(1.0)  # Cauchy: P(|T| ≤ 1) = ½


def test_interval_of_a_mean():
    m = mean([8.0, 9.0, 10.0, 11.0, 12.0])  # s² = 10/4, s/√5 = √½
    assert (m.value, m.n) == (10.0, 5)
    assert m.half == pytest.approx(2.7764 * math.sqrt(0.5), abs=1e-4)
    assert (m.low, m.high) == (m.value - m.half, m.value + m.half)


def test_differences_are_taken_seed_by_seed():
    """The nets scatter by far more than they differ: +1, +2, +3 in the seeds that both have."""
    d = paired({1: 11.0, 2: 52.0, 3: 93.0, 4: 0.0}, {3: 90.0, 2: 50.0, 1: 10.0, 5: 7.0})
    assert (d.value, d.n) == (2.0, 3)
    assert d.half == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)


def test_one_value_has_no_interval_and_none_no_mean():
    assert math.isnan(mean([3.0]).half)
    assert math.isnan(mean([]).value)
    assert paired({1: 2.0}, {2: 1.0}).n == 0


def test_equal_values_have_no_width():
    assert mean([4.0, 4.0, 4.0]).half == 0
