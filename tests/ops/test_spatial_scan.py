"""crnn::spatial_scan on a GPU; tests/cuda/test_spatial_scan.py runs the same kernels everywhere."""

import pytest
import torch

from crnn.ops import backends, spatial_rnn, spatial_scan
from crnn.ops.spatial import VARIANTS
from crnn.ops.spatial_scan_reference import spatial_scan as definition
from crnn.testing import FOUR, assert_near, spatial_scan_cases

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(scope="module")
def gpu():
    if "cuda" not in backends() or torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a GPU of compute capability 9.0")
    return "cuda"


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", spatial_scan_cases(), ids=str)
def test_kernels_on_a_gpu(gpu, case, dtype):
    inputs = case.inputs(dtype, device=gpu)
    rest = {"plan": case.scan.plan, "cell": case.scan.cell, "combine": case.combine}
    first, second = (spatial_scan(**inputs, **rest) for _ in range(2))
    want_y, want_state = definition(**{k: v if v is None else v.double() for k, v in inputs.items()}, **rest)
    assert_near(first[0], want_y, TOLERANCE[dtype], "y")
    assert_near(first[1], want_state[0], TOLERANCE[dtype], "h")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_gradients_on_a_gpu(gpu, variant):
    """In float16 against float64; the bias keeps every relu open, so that rounding flips none."""
    rng = torch.Generator(gpu).manual_seed(3)

    def leaf(*shape, scale=1.0, shift=0.0):
        made = (torch.randn(*shape, generator=rng, device=gpu) * scale + shift).half()
        return made.requires_grad_(), made.detach().double().requires_grad_()

    pairs = [leaf(9, 16, 3, 5), leaf(4, 64, 16, scale=0.1), leaf(4, 64, shift=9), leaf(4, 64, 64, scale=0.01)]
    tensors, exact = zip(*pairs, strict=True)
    got, want = spatial_rnn(*tensors, FOUR, variant=variant), spatial_rnn(*exact, FOUR)
    dy = torch.randn(got.shape, generator=rng, device=gpu).half()
    gradients = torch.autograd.grad(got, tensors, dy), torch.autograd.grad(want, exact, dy.double())
    for one, other in ((got, want), *zip(*gradients, strict=True)):
        assert_near(one, other, 3e-3)


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_opcheck_on_a_gpu(gpu, combine):
    case = next(c for c in spatial_scan_cases() if c.C)
    inputs = case.inputs(torch.half, device=gpu)
    leaves = [inputs[k].requires_grad_() for k in ("x", "w_ih", "bias", "w_hh")]
    flat = [int(v) for d in case.scan.plan for v in d]
    torch.library.opcheck(torch.ops.crnn.spatial_scan.default, (*leaves, None, flat, "relu", combine))
