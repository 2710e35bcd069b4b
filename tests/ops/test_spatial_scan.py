"""crnn::spatial_scan on the CPU and on a GPU, whose kernels tests/cuda/test_spatial_scan.py emulates."""

import pytest
import torch

from crnn.ops import backends, spatial_rnn, spatial_scan, use_backend
from crnn.ops.spatial import VARIANTS
from crnn.ops.spatial_scan_reference import spatial_scan as definition
from crnn.testing import FOUR, ScanCase, SpatialCase, assert_near, spatial_scan_cases

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
ON_CPU = {torch.float64: 1e-14, torch.float32: 1e-6, **TOLERANCE}
SUMS = [c for c in spatial_scan_cases() if not c.C] + [  # and blocks of channels that are not full
    SpatialCase(ScanCase(cell, "carry", FOUR, N, H, W, D), combine)
    for cell, N, H, W, D in (("lstm", 3, 2, 3, 70), ("relu", 0, 2, 2, 5), ("gru", 2, 1, 1, 1))
    for combine in ("sum", "concat")
]


@pytest.fixture
def on_cpu():
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")


@pytest.mark.parametrize("dtype", ON_CPU, ids=str)
@pytest.mark.parametrize("case", SUMS, ids=str)
def test_sums_on_the_cpu(on_cpu, case, dtype):
    """y is the sum of the stored states in the order of the directions, rounded once."""
    inputs = case.inputs(dtype)
    rest = {"plan": case.scan.plan, "cell": case.scan.cell, "combine": case.combine}
    y, h = spatial_scan(**inputs, **rest)
    want_y, want_state = definition(**{k: v if v is None else v.double() for k, v in inputs.items()}, **rest)
    assert_near(h, want_state[0], ON_CPU[dtype], "h")
    assert_near(y, want_y, ON_CPU[dtype], "y")
    if case.combine == "sum":
        total = sum(h.to(torch.promote_types(dtype, torch.float32)).unbind(2)).transpose(0, 1)
        assert y.is_contiguous() and torch.equal(y, total.to(dtype))


@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_the_sum_takes_part_in_the_gradient_as_torchs(on_cpu, combine):
    leaves = [torch.randn(*shape, requires_grad=True) for shape in ((2, 3, 4, 5), (4, 6, 3), (4, 6))]
    leaves.append((0.1 * torch.randn(4, 6, 6)).requires_grad_())
    ways = [spatial_rnn(*leaves, FOUR, combine=combine, variant=variant) for variant in ("sum", "scan")]
    assert_near(*ways, 1e-6)
    for one, other in zip(*(torch.autograd.grad(y.square().sum(), leaves) for y in ways), strict=True):
        assert_near(one, other, 1e-6)


def test_what_the_cpu_does_not_take(on_cpu):
    leaves = torch.randn(2, 3, 4, 5), torch.randn(4, 6, 3), torch.randn(4, 6), torch.randn(4, 6, 6)
    with pytest.raises(RuntimeError, match="spatial_scan on cpu: it sums directions, and projects on cuda"):
        spatial_rnn(*leaves, FOUR, variant="fused")
    with use_backend("reference"), pytest.raises(ValueError, match="not for the reference backend; use scan"):
        spatial_rnn(*leaves, FOUR, variant="sum")


@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_opcheck_on_the_cpu(on_cpu, combine):
    z, w_hh = torch.randn(6, 2, 2, 5), torch.randn(2, 5, 5)
    flat = [int(v) for d in ScanCase("relu", "carry", FOUR[:2], 2, 2, 3, 5).plan for v in d]
    arguments = (z.requires_grad_(), None, None, w_hh.requires_grad_(), None, flat, "relu", combine)
    torch.library.opcheck(torch.ops.crnn.spatial_scan.default, arguments)


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
