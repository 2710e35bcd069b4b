"""crnn::update by the CUDA kernel, under emulation, against the definition in float64."""

import pytest
import torch

from crnn.ops import update_reference
from crnn.testing import UPDATE_TOLERANCE, UpdateCase, assert_near, update_cases


def joined(tensors):
    return torch.cat([t.double().flatten() for t in tensors])


def check(emulated, case, dtype, blobs, grads, history):
    """One update of these tensors; the definition's is of copies."""
    want = [[t.double() for t in ts] for ts in (blobs, grads, *history)]
    update_reference.update(want[0], want[1], want[2:], *case.options)
    flat = [h for each in history for h in each]
    numbers = (case.rate, case.decay, case.regularization == "L1", case.scale)
    emulated.update(blobs, grads, flat, case.rule, case.numbers, *numbers)
    for ours, definition in zip([blobs, *history], [want[0], *want[2:]], strict=True):
        assert_near(joined(ours), joined(definition), UPDATE_TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", UPDATE_TOLERANCE, ids=str)
@pytest.mark.parametrize("case", update_cases(), ids=str)
def test_every_case(emulated, case, dtype):
    check(emulated, case, dtype, *case.inputs(dtype))


@pytest.mark.parametrize("rule", update_reference.RULES)
def test_tensors_that_begin_anywhere(emulated, rule):
    case = UpdateCase(rule, shapes=((5001,), (3,)))
    blobs, grads, history = case.inputs(torch.float32)
    check(
        emulated,
        case,
        torch.float32,
        [b[1:] for b in blobs],
        [g[1:] for g in grads],
        [[t[1:] for t in h] for h in history],
    )


def test_more_blobs_than_a_launch_takes(emulated):
    case = UpdateCase("Adam", shapes=[(n % 7,) for n in range(120)])
    check(emulated, case, torch.float32, *case.inputs(torch.float32))


def test_only_empty_blobs_are_no_work(emulated):
    case = UpdateCase("SGD", shapes=((0, 3),))
    check(emulated, case, torch.float32, *case.inputs(torch.float32))
