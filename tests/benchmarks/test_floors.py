"""The floor of a case, counted by hand."""

import pytest

from benchmarks.floors import Rates, Work, dependent_steps, floor, work
from crnn.testing import FOUR, InnerProductCase, LrnCase, ScanCase, UpdateCase

CRNN = ScanCase("relu", "carry_value", FOUR, 32, 6, 6, 256)
STATES = 36 * 32 * 4  # of all regions, samples and directions
WEIGHTS = 4 * 256 * 256


def test_flop_of_the_scan():
    """One product of 256 x 256 a state; backward two."""
    assert work(CRNN, "scan", "inference", 2).flop == 2 * STATES * 256 * 256
    assert work(CRNN, "scan", "forward+backward", 2).flop == 6 * STATES * 256 * 256


def test_flop_of_the_layer_has_the_projection():
    assert work(CRNN, "spatial_rnn", "inference", 2).flop == 4 * STATES * 256 * 256


def test_bytes_of_the_scan():
    z = h = STATES * 256
    assert work(CRNN, "scan", "inference", 2).bytes == 2 * (z + WEIGHTS + h)
    assert work(CRNN, "scan", "training forward", 2).bytes == 2 * (z + WEIGHTS + h)
    backward = (h + h + WEIGHTS) + (z + WEIGHTS)  # reads dh, h, W; writes dz, dW
    assert work(CRNN, "scan", "forward+backward", 4).bytes == 4 * (z + WEIGHTS + h + backward)


def test_bytes_of_a_cell_that_keeps_more():
    """lstm keeps h, c and four gates, and its z has four gates."""
    case = ScanCase("lstm", "carry", ("right",), 1, 1, 10, 8)
    assert work(case, "scan", "inference", 4).bytes == 4 * (10 * 32 + 4 * 64 + 10 * 8)
    assert work(case, "scan", "training forward", 4).bytes == 4 * (10 * 32 + 4 * 64 + 10 * 8 * 6)


def test_bytes_of_the_layer_are_one_map_in_and_one_out():
    x = y = 36 * 32 * 256
    weights = 2 * WEIGHTS + 4 * 256
    assert work(CRNN, "spatial_rnn", "inference", 2).bytes == 2 * (x + weights + y)
    kept = STATES * 256
    training = x + weights + y + kept
    backward = (y + kept + weights + x) + (x + weights)  # reads dy, h, W and x again; writes dx, dW
    assert work(CRNN, "spatial_rnn", "training forward", 2).bytes == 2 * training
    assert work(CRNN, "spatial_rnn", "forward+backward", 2).bytes == 2 * (training + backward)


def test_lrn_and_update_are_counted_in_bytes():
    norm = LrnCase(False, (2, 3, 4, 5))
    assert work(norm, "lrn", "training forward", 2) == (0, 2 * 2 * 120, 0)  # reads x, writes y
    assert work(norm, "lrn", "forward+backward", 2) == (0, 2 * 5 * 120, 0)  # reads x, dy, writes dx
    sgd = UpdateCase("SGD", shapes=((3, 4), (5,)))
    assert work(sgd, "update", "update", 4) == (0, 4 * 5 * 17, 0)  # reads W, g, v; writes W, v


def test_an_inner_product_reads_or_writes_each_of_its_matrices_once():
    case, values = InnerProductCase(2, 5, 7), 2 * 7 + 5 * 7 + 2 * 5
    assert work(case, "inner_product", "inference", 4) == (2 * 2 * 5 * 7, 4 * values, 0)
    assert work(case, "inner_product", "forward+backward", 4) == (6 * 2 * 5 * 7, 12 * values, 0)


@pytest.mark.parametrize(
    ("line_break", "forward", "both"), [("carry", 12, 24), ("carry_value", 12, 16), ("reset", 4, 8)]
)
def test_steps_that_wait_for_each_other(line_break, forward, both):
    """On a 3 x 4 map, rows: windows are walked one after another but their gradients all at once."""
    case = ScanCase("relu", line_break, ("right",), 2, 3, 4, 5)
    assert dependent_steps(case, "inference") == forward
    assert dependent_steps(case, "forward+backward") == both


def test_a_step_of_the_papers_gru_has_two_products():
    assert dependent_steps(ScanCase("gru", "reset", ("right",), 2, 3, 4, 5), "inference") == 8


@pytest.mark.parametrize(
    ("needs", "limit", "ms"),
    [
        (Work(4_000_000, 1000, 1), "flop", 4.0),
        (Work(1000, 7_000_000, 1), "bytes", 3.5),
        (Work(1000, 1000, 9000), "chain", 9.0),
    ],
)
def test_the_floor_is_the_largest_bound(needs, limit, ms):
    found = floor(needs, Rates(flop=1e9, bytes=2e9, step=1e-6))
    assert (found["limit"], found["ms"]) == (limit, pytest.approx(ms))
    assert {"flop_ms", "bytes_ms", "chain_ms"} <= found.keys()


def test_of_two_measurements_the_better_rates_count():
    best = Rates(flop=1.0, bytes=4.0, step=2.0).better(Rates(flop=3.0, bytes=2.0, step=1.0))
    assert best == Rates(3.0, 4.0, 1.0)
    needs = Work(6, 8, 0)
    assert Work.of(floor(needs, best)) == needs
