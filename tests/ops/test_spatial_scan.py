"""crnn::spatial_scan on the CPU and on a GPU, whose kernels tests/cuda/test_spatial_scan.py emulates."""

import pytest
import torch

from crnn.ops import backends, spatial_rnn, spatial_scan, use_backend
from crnn.ops.reference import CELLS
from crnn.ops.spatial import VARIANTS
from crnn.ops.spatial_scan_reference import spatial_scan as definition
from crnn.testing import FOUR, ScanCase, SpatialCase, assert_near, spatial_scan_cases

TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}
ON_CPU = {torch.float64: 1e-14, torch.float32: 1e-6, **TOLERANCE}
SUMS = [  # and blocks of channels that are not full
    SpatialCase(ScanCase(cell, "carry", FOUR, N, H, W, D), combine)
    for cell, N, H, W, D in (("lstm", 3, 2, 3, 70), ("relu", 0, 2, 2, 5), ("gru", 2, 1, 1, 1))
    for combine in ("sum", "concat")
]
SHAPES = ("carry_value", 7, 2, 3, 19, 5), ("reset", 2, 3, 4, 72, 200), ("reset", 10, 3, 4, 72, 200)
PROJECTED = [  # inside the scan where there are chains enough or weights few, else before it
    SpatialCase(ScanCase(cell, line_break, FOUR, N, H, W, D), C=C)
    for cell in CELLS
    for line_break, N, H, W, D, C in SHAPES
] + [
    SpatialCase(ScanCase(cell, "carry", FOUR, N, H, W, D), combine, C, shared, with_bias)
    for cell in ("relu", "ln_relu", "gru")
    for combine, shared, with_bias in (("sum", True, True), ("mean", False, False), ("concat", True, False))
    for N, H, W, D, C in ((25, 1, 3, 70, 33), (2, 2, 2, 72, 200), (6, 1, 2, 500, 530), (0, 2, 2, 5, 3))
]


@pytest.fixture
def on_cpu():
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")


@pytest.mark.parametrize("dtype", ON_CPU, ids=str)
@pytest.mark.parametrize("case", spatial_scan_cases() + SUMS + PROJECTED, ids=str)
def test_sums_and_projects_on_the_cpu(on_cpu, case, dtype):
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("C", [0, 30])
@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize(
    ("line_break", "order"),
    [("reset", FOUR[:2]), ("reset", ("up", "mirror_up", "down")), ("reset", FOUR), ("carry_value", FOUR)],
)
@pytest.mark.parametrize("cell", CELLS)
def test_without_a_gradient_the_sum_is_the_same(on_cpu, cell, line_break, order, combine, C, dtype):
    """Then no state is kept where lines hold the same positions and are many, as those of 50 samples."""
    case = SpatialCase(ScanCase(cell, line_break, order, 50, 2, 3, 19), combine, C)
    given, flat = case.inputs(dtype), [int(v) for d in case.scan.plan for v in d]
    arguments = *(given[k] for k in ("x", "w_ih", "bias", "w_hh", "cell_params")), flat, cell, combine, ""
    y, state, saved = torch.ops.crnn.spatial_scan(*arguments, False)
    assert state.numel() == saved.numel() == 0
    assert torch.equal(y, torch.ops.crnn.spatial_scan(*arguments)[0])


@pytest.mark.parametrize("inputs, biases", [(1, 4), (4, 1)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_w_ih_and_bias_are_both_shared_or_both_not(on_cpu, variant, inputs, biases):
    x, w_ih, bias, w_hh = (
        torch.randn(2, 3, 4, 4),
        torch.zeros(inputs, 5, 3),
        torch.zeros(biases, 5),
        torch.zeros(4, 5, 5),
    )
    with pytest.raises(ValueError, match=f"w_ih of {inputs} directions and bias of {biases}; give as many"):
        spatial_rnn(x, w_ih, bias, w_hh, FOUR, variant=variant)
    flat = [int(v) for d in ScanCase("relu", "carry", FOUR, 2, 4, 4, 5).plan for v in d]
    rows = x.permute(2, 3, 0, 1).flatten(0, 1).contiguous()
    with pytest.raises(
        RuntimeError, match="must be contiguous, of x's dtype and device, and for 4 directions"
    ):
        torch.ops.crnn.spatial_scan(rows, w_ih, bias, w_hh, None, flat, "relu", "sum")


def test_what_needs_the_states(on_cpu):
    z, w_hh, flat = torch.randn(6, 2, 1, 5), torch.randn(1, 5, 5, requires_grad=True), [0, 3, 1, 2, 3, 0]
    with pytest.raises(RuntimeError, match="of combine 'concat' the states are the result"):
        torch.ops.crnn.spatial_scan(z, None, None, w_hh.detach(), None, flat, "relu", "concat", "", False)
    with pytest.raises(ValueError, match="without its states it has no gradient; states must be true"):
        torch.ops.crnn.spatial_scan(z, None, None, w_hh, None, flat, "relu", "sum", "", False)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("N", [2, 7])
@pytest.mark.parametrize("inputs", [1, 4])
@pytest.mark.parametrize("combine", ["sum", "mean", "concat"])
def test_one_call_takes_part_in_the_gradient_as_its_parts(on_cpu, combine, inputs, N, layout):
    x = torch.randn(N, 30, 4, 5).contiguous(memory_format=layout)
    leaves = [x, torch.randn(inputs, 70, 30), torch.randn(inputs, 70), 0.1 * torch.randn(4, 70, 70)]
    leaves = [leaf.double().requires_grad_() for leaf in leaves]
    want = spatial_rnn(*leaves, FOUR, combine=combine, variant="scan")
    gradients = torch.autograd.grad(want.square().sum(), leaves)
    for variant in ("fused", "projection", *(() if combine == "concat" else ("sum",))):
        got = spatial_rnn(*leaves, FOUR, combine=combine, variant=variant)
        assert_near(got, want, 1e-13)
        for one, other in zip(torch.autograd.grad(got.square().sum(), leaves), gradients, strict=True):
            assert_near(one, other, 1e-13)


@pytest.mark.parametrize("variant", ["portable", "avx2", "avx512"])
@pytest.mark.parametrize("cell", ["relu", "lstm", "gru"])
def test_every_instruction_set_projects(on_cpu, cell, variant):
    case = SpatialCase(ScanCase(cell, "reset", FOUR, 25, 2, 3, 40), C=33)
    given, rest = case.inputs(torch.float64), {"plan": case.scan.plan, "cell": cell}
    try:
        y, _ = spatial_scan(**given, **rest, variant=variant)
    except RuntimeError as error:
        assert f"this processor cannot run variant '{variant}'" in str(error)
        pytest.skip(f"needs an x86 processor with {variant.upper()}")
    assert_near(y, definition(**given, **rest)[0], 1e-14)


@pytest.mark.parametrize(
    ("line_break", "order", "N"),
    [("carry_value", FOUR, 50), ("reset", FOUR, 9), ("reset", FOUR[:2], 9), ("reset", FOUR, 1)],
)
@pytest.mark.parametrize("cell", ["relu", "gru"])
def test_equal_bits_for_any_number_of_threads(on_cpu, cell, line_break, order, N, threads):
    """Of which it depends where the sum is made: in the scan, cut between lines or samples, or after it."""
    case = SpatialCase(ScanCase(cell, line_break, order, N, 13, 11, 40), "mean", C=64)
    given, rest = case.inputs(torch.float32), {"plan": case.scan.plan, "cell": cell, "combine": "mean"}
    found = []
    for count in (1, 2, 3, 4, 9):
        threads(count)
        found.append(spatial_scan(**given, **rest))
    assert all(torch.equal(y, found[0][0]) and torch.equal(h, found[0][1]) for y, h in found)
    assert_near(found[0][0], definition(**given, **rest)[0], 2e-6)


@pytest.mark.parametrize("C", [0, 3, 500])
@pytest.mark.parametrize("combine", ["sum", "concat"])
def test_opcheck_on_the_cpu(on_cpu, combine, C):
    case = SpatialCase(ScanCase("relu", "carry", FOUR[:2], 2, 2, 3, 25), C=C)
    given = case.inputs(torch.float32)
    leaves = [given[k] if given[k] is None else given[k].requires_grad_() for k in list(given)[:4]]
    flat = [int(v) for d in case.scan.plan for v in d]
    arguments = (*leaves, None, flat, "relu", combine)
    torch.library.opcheck(torch.ops.crnn.spatial_scan.default, arguments)


def test_the_reference_has_no_spatial_scan(on_cpu):
    leaves = torch.randn(2, 3, 4, 5), torch.randn(4, 6, 3), torch.randn(4, 6), torch.randn(4, 6, 6)
    with use_backend("reference"), pytest.raises(ValueError, match="not for the reference backend; use scan"):
        spatial_rnn(*leaves, FOUR, variant="sum")


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
