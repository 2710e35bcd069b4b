"""crnn::lrn by the CUDA kernels, under emulation, against the definition in float64."""

import pytest
import torch

from crnn.ops.lrn_reference import lrn
from crnn.testing import LRN_TOLERANCE, LrnCase, assert_near, lrn_cases

SPANS = [
    LrnCase(False, shape, size, channels_last=last)
    for shape in [(2, 16, 3, 11), (1, 40, 5, 9), (2, 8, 1, 1), (1, 152, 1, 33)]
    for size in (3, 5)
    for last in (False, True)
]
ANY_CHANNELS = [LrnCase(False, (2, C, 3, 5), 5) for C in (1, 2, 3, 15, 17)]


def check(emulated, case, dtype, variant):
    x, dy = case.inputs(dtype).values()
    leaf = x.double().requires_grad_()
    want = lrn(leaf, *case.numbers)
    y = emulated.lrn(x, *case.numbers, variant)
    dx = emulated.lrn_backward(dy, x, *case.numbers, variant)
    assert_near(y, want, LRN_TOLERANCE[dtype], "y")
    assert_near(dx, torch.autograd.grad(want, leaf, dy.double())[0], LRN_TOLERANCE[dtype], "dx")


@pytest.mark.parametrize("dtype", LRN_TOLERANCE, ids=str)
@pytest.mark.parametrize("case", [c for c in lrn_cases() if c.shape[1] < 50], ids=str)
def test_plain_takes_every_case(emulated, case, dtype):
    check(emulated, case, dtype, "plain")


@pytest.mark.parametrize("dtype", LRN_TOLERANCE, ids=str)
@pytest.mark.parametrize("case", SPANS, ids=str)
def test_spans(emulated, case, dtype):
    check(emulated, case, dtype, "spans")


@pytest.mark.parametrize("case", ANY_CHANNELS, ids=str)
def test_spans_over_planes_take_any_number_of_channels(emulated, case):
    check(emulated, case, torch.float32, "spans")


def test_where_k_is_zero_nothing_beyond_the_ends_counts(emulated):
    check(emulated, LrnCase(False, (1, 7, 2, 2), 5, k=0.0), torch.float64, "spans")


@pytest.mark.parametrize(
    "case, message",
    [
        (LrnCase(True, (1, 8, 2, 2)), "normalises across channels"),
        (LrnCase(False, (1, 8, 2, 2), beta=0.5), "needs beta 0.75"),
        (LrnCase(False, (1, 8, 2, 2), 7), "needs size 3 or 5"),
        (LrnCase(False, (1, 7, 2, 2), channels_last=True), "needs channels that begin at multiples of 16"),
    ],
    ids=str,
)
def test_what_spans_cannot_do_is_left_to_plain(emulated, case, message):
    x = case.inputs()["x"]
    with pytest.raises(RuntimeError, match=f"variant 'spans' {message}"):
        emulated.lrn(x, *case.numbers, "spans")
    assert torch.equal(emulated.lrn(x, *case.numbers, ""), emulated.lrn(x, *case.numbers, "plain"))
    with pytest.raises(RuntimeError, match="unknown variant 'fast' on cuda; known: spans, plain"):
        emulated.lrn(x, *case.numbers, "fast")
