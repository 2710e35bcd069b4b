"""crnn::spatial_scan, the scan with its neighbours fused, under emulation."""

import importlib
import itertools
from functools import reduce

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from crnn.ops import ORDERS, LineBreak, plan, spatial_rnn, spatial_scan
from crnn.ops.recurrent_gradient import recurrent_gradient
from crnn.ops.reference import CELLS
from crnn.ops.scan import directions_of
from crnn.ops.spatial_scan import same_positions
from crnn.ops.spatial_scan_reference import spatial_scan as definition
from crnn.testing import FOUR, ScanCase, SpatialCase, assert_near, relative_error, spatial_scan_cases

MODULE = importlib.import_module("crnn.ops.spatial_scan")
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3}  # as tests/cuda/test_scan_resident.py
BREAKS = [b.name.lower() for b in LineBreak]
ROWS, COLUMNS = FOUR[:2], FOUR[2:]


@pytest.fixture
def fused(emulated, monkeypatch):
    """`crnn.ops.spatial_scan` and its gradient on the CUDA kernels. Gives the ops themselves."""

    class Emulated(torch.autograd.Function):
        backward = staticmethod(MODULE._backward)

        @staticmethod
        def forward(ctx, *args):
            output = emulated.spatial_scan(*args)
            MODULE._setup_context(ctx, args, output)
            return output

    def by_products(weights, *args):
        dz, *rest = torch.ops.crnn.scan_backward.default(*args)
        _, _, _, initial, cont, state, saved, plan, cell, *_ = args
        steps, reset = directions_of(plan), CELLS[cell].reset
        return dz, *rest, recurrent_gradient(dz, initial, cont, state, saved, steps, reset)

    monkeypatch.setattr(MODULE, "_kernel", lambda x: Emulated.apply)
    monkeypatch.setattr(MODULE, "gradients", by_products)  # as on a GPU
    return emulated


def call(op, case, inputs):
    """The op's results (y, state, saved) for a case's inputs."""
    flat = [int(v) for d in case.scan.plan for v in d]
    tensors = [inputs[k] for k in ("x", "w_ih", "bias", "w_hh", "cell_params")]
    return op.spatial_scan(*tensors, flat, case.scan.cell, case.combine)


def check(op, case, dtype):
    """y and the states near the definition in float64; y the rounded sum of the states as they are stored."""
    inputs = case.inputs(dtype)
    y, state, saved = call(op, case, inputs)
    exact = {k: None if v is None else v.double() for k, v in inputs.items()}
    want_y, want_state = definition(plan=case.scan.plan, cell=case.scan.cell, combine=case.combine, **exact)
    assert_near(state, want_state, TOLERANCE[dtype], "state")
    assert_near(y, want_y, TOLERANCE[dtype], "y")
    assert y.is_contiguous()
    if case.combine != "concat":
        total = reduce(torch.add, state[0].float().unbind(2)).transpose(0, 1)
        scale = torch.tensor(len(case.scan.directions) if case.combine == "mean" else 1.0).reciprocal()
        assert torch.equal(y, (total * scale).to(dtype))
    return y, state, saved.view(torch.uint8)


def check_against_scan(op, case, dtype):
    """As `check`; state and saved are bit for bit what the scan gives for z."""
    _, state, saved = check(op, case, dtype)
    inputs = case.inputs(dtype)
    flat = [int(v) for d in case.scan.plan for v in d]
    rest = (inputs["w_hh"], inputs["cell_params"], None, None, flat, case.scan.cell, "resident")
    want = op.scan(inputs["x"], *rest)
    assert torch.equal(state, want[0])
    assert torch.equal(saved, want[1].view(torch.uint8))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", [c for c in spatial_scan_cases() if not c.C], ids=str)
def test_every_sum(emulated, case, dtype):
    check_against_scan(emulated, case, dtype)


@pytest.mark.parametrize("cell", CELLS)
def test_the_sum_of_every_cell(emulated, cell):
    for dtype in TOLERANCE:
        check_against_scan(emulated, SpatialCase(ScanCase(cell, "carry_value", FOUR, 3, 2, 3, 64)), dtype)


#: N, H, W, D: padded channels, chains that do not fill a tile or fill several, lines of one, no samples.
ODD = [
    (1, 1, 1, 8), (5, 2, 2, 72), (1, 3, 2, 128), (9, 2, 3, 136), (3, 2, 2, 200), (17, 2, 2, 256),
    (1, 1, 5, 64), (2, 5, 1, 64), (40, 3, 1, 56), (33, 1, 2, 64), (3, 7, 9, 16), (0, 2, 3, 64),
]  # fmt: skip


@pytest.mark.parametrize("shape", ODD, ids=str)
@pytest.mark.parametrize(("line_break", "order"), [("carry_value", FOUR), ("reset", COLUMNS)])
@pytest.mark.parametrize("cell", ["relu", "ln_relu"])
def test_sums_of_odd_shapes(emulated, cell, line_break, order, shape):
    check_against_scan(emulated, SpatialCase(ScanCase(cell, line_break, order, *shape)), torch.bfloat16)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("case", [c for c in spatial_scan_cases() if c.C], ids=str)
def test_every_projection(emulated, case, dtype):
    check(emulated, case, dtype)


#: N, H, W, D, C: each padded or not, one kernel for both; one position; chains that do not fill a tile.
PROJECTED = [
    (3, 2, 2, 64, 8), (1, 1, 1, 8, 40), (5, 2, 3, 72, 128), (40, 1, 3, 128, 72), (9, 2, 2, 200, 256),
    (2, 2, 2, 256, 200), (17, 2, 1, 256, 8), (2, 3, 2, 8, 256), (33, 1, 2, 64, 64), (0, 2, 2, 64, 64),
]  # fmt: skip


@pytest.mark.parametrize("shape", PROJECTED, ids=str)
@pytest.mark.parametrize(("line_break", "order"), [("carry_value", FOUR), ("reset", COLUMNS)])
@pytest.mark.parametrize("cell", ["relu", "ln_relu"])
def test_projections_of_odd_shapes(emulated, cell, line_break, order, shape):
    *scan, C = shape
    check(emulated, SpatialCase(ScanCase(cell, line_break, order, *scan), "sum", C), torch.bfloat16)


@pytest.mark.parametrize(("D", "N"), [(128, 300), (256, 60), (256, 150)])
def test_projections_of_so_many_chains_that_a_block_takes_more(emulated, D, N):
    check(emulated, SpatialCase(ScanCase("relu", "reset", ROWS, N, 10, 2, D), "sum", D), torch.bfloat16)


def test_the_projection_is_not_rounded(emulated):
    """z in bfloat16 has errors of its own, which the states show; in the kernel it stays in float."""
    case = SpatialCase(ScanCase("relu", "carry", FOUR, 4, 3, 3, 64), "sum", 64)
    inputs = case.inputs(torch.bfloat16)
    exact = {k: None if v is None else v.double() for k, v in inputs.items()}
    want = definition(plan=case.scan.plan, cell="relu", **exact)[1]
    z = (torch.einsum("pnc,kgc->pnkg", exact["x"], exact["w_ih"]) + exact["bias"]).bfloat16()
    rounded = call(emulated, case._replace(C=0), {**inputs, "x": z, "w_ih": None, "bias": None})[1]
    projected = call(emulated, case, inputs)[1]
    assert relative_error(projected, want) < 0.8 * relative_error(rounded, want)


@pytest.mark.parametrize("C", [0, 72])
def test_equal_input_gives_equal_bits(emulated, C):
    case = SpatialCase(ScanCase("ln_relu", "reset", ROWS, 5, 3, 2, 128), C=C)
    first, second = (check(emulated, case, torch.bfloat16) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_x_of_any_strides_enters_without_a_copy(emulated):
    case = SpatialCase(ScanCase("relu", "carry_value", FOUR, 4, 3, 5, 64), C=40)
    inputs = case.inputs(torch.bfloat16)  # a map in channels_last order
    assert not inputs["x"].is_contiguous()
    wide = torch.cat([inputs["x"]] * 2, 2)[..., :40]
    results = [call(emulated, case, {**inputs, "x": x})[0] for x in (inputs["x"], wide, wide.contiguous())]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_z_of_any_strides_enters_without_a_copy(emulated):
    """A channels_last map, and one input for all directions: the bits of a dense copy."""
    case = SpatialCase(ScanCase("relu", "carry_value", FOUR, 4, 3, 5, 64))
    inputs = case.inputs(torch.bfloat16)
    z = inputs["x"]
    for strided in (z.transpose(0, 1).contiguous().transpose(0, 1), z[:, :, :1].expand(-1, -1, 4, -1)):
        got = call(emulated, case, {**inputs, "x": strided})[0]
        assert torch.equal(got, call(emulated, case, {**inputs, "x": strided.contiguous()})[0])


@pytest.mark.parametrize(
    ("case", "dtype", "message"),
    [
        (SpatialCase(ScanCase("relu", "reset", FOUR, 1, 2, 2, 64)), torch.bfloat16, "rows or columns alone"),
        (SpatialCase(ScanCase("relu", "carry", FOUR * 3, 1, 2, 2, 64)), torch.bfloat16, "at most 8"),
        (SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 7)), torch.bfloat16, "multiples of 16 bytes"),
        (SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 264)), torch.bfloat16, "no kernel .* so many"),
        (SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 64)), torch.float32, "no kernel of this cell"),
        (SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 64), "concat"), torch.half, "crnn::scan"),
        (SpatialCase(ScanCase("relu", "reset", FOUR, 1, 2, 2, 64), C=8), torch.half, "rows or columns alone"),
        (SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 64), C=12), torch.half, "of 16 bytes"),
        (SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 64), C=264), torch.half, "no kernel .* many"),
        (SpatialCase(ScanCase("tanh", "carry", FOUR, 1, 2, 2, 64), C=64), torch.half, "no kernel of this"),
    ],
    ids=str,
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_reason(emulated, case, dtype, message):
    with pytest.raises(RuntimeError, match=f"crnn::spatial_scan on cuda: it .*{message}"):
        call(emulated, case, case.inputs(dtype))


def test_wrong_arguments(emulated):
    case = SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 64), "max")
    with pytest.raises(RuntimeError, match="unknown combine 'max'; known: sum, mean, concat"):
        call(emulated, case, case.inputs(torch.bfloat16))
    with pytest.raises(RuntimeError, match="a bias goes with w_ih"):
        bias = torch.zeros(4, 64, dtype=torch.bfloat16)
        call(emulated, case._replace(combine="sum"), {**case.inputs(torch.bfloat16), "bias": bias})
    case = SpatialCase(case.scan, C=8)
    for name, wrong, message in (
        ("w_ih", torch.zeros(2, 64, 8), r"w_ih .* must be .* for 4 directions of cell 'relu' of 64 channels"),
        ("bias", torch.zeros(4, 65), r"bias .* must be .* for 4 directions"),
        ("x", torch.zeros(4, 8), r"x must be \[P, N, C\], got 2 dimensions"),
    ):
        with pytest.raises(RuntimeError, match=message):
            call(emulated, case, {**case.inputs(torch.bfloat16), name: wrong.bfloat16()})
    none = {"x": torch.zeros(4, 1, 0).bfloat16(), "w_ih": torch.zeros(4, 64, 0).bfloat16()}
    with pytest.raises(RuntimeError, match="x must have channels"):
        call(emulated, case, {**case.inputs(torch.bfloat16), **none})


def test_python_knows_which_plans_the_kernel_can_sum(emulated):
    orders = [o for K in (1, 2, 3) for o in itertools.product(ORDERS, repeat=K)]
    for order, line_break, (H, W) in itertools.product(orders, BREAKS, [(2, 3), (2, 2)]):
        steps = plan(order, H, W, line_break)
        z = torch.zeros(H * W, 1, len(order), 8, dtype=torch.half)
        w_hh, flat = torch.zeros(len(order), 8, 8, dtype=torch.half), [int(v) for d in steps for v in d]
        args = (z, None, None, w_hh, None, flat, "relu", "sum")
        if same_positions(steps):
            emulated.spatial_scan(*args)
        else:
            with pytest.raises(RuntimeError, match="hold the same positions"):
                emulated.spatial_scan(*args)


@pytest.mark.parametrize("combine", ["sum", "mean"])
@pytest.mark.parametrize(("line_break", "order"), [("carry_value", FOUR), ("reset", ROWS)])
@pytest.mark.parametrize("cell", ["tanh", "gru_tanh", "lstm"])  # smooth: rounding does not flip a relu
def test_the_layer_and_its_gradients(fused, cell, line_break, order, combine):
    """spatial_rnn by the fused kernel in float16 against itself in float64."""
    rng, K, G = torch.Generator().manual_seed(3), len(order), CELLS[cell].gates

    def leaf(*shape, scale=1.0):
        made = torch.randn(*shape, generator=rng, dtype=torch.float64) * scale
        return made.half().requires_grad_(), made.half().double().requires_grad_()

    pairs = [
        leaf(3, 16, 2, 5),
        leaf(K, G * 64, 16, scale=0.25),
        leaf(K, G * 64),
        leaf(K, G * 64, 64, scale=0.05),
    ]
    tensors, exact = zip(*pairs, strict=True)
    got = spatial_rnn(*tensors, order, line_break, cell, combine, variant="sum")
    want = spatial_rnn(*exact, order, line_break, cell, combine, variant="scan")
    assert_near(got, want, 3e-3, "y")
    dy = torch.randn(got.shape, generator=rng)
    for name, one, other in zip(
        ("x", "w_ih", "bias", "w_hh"),
        torch.autograd.grad(got, tensors, dy.half()),
        torch.autograd.grad(want, exact, dy.half().double()),
        strict=True,
    ):
        assert_near(one, other, 5e-3, name)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    ("variant", "line_break", "order", "combine"),
    [
        ("fused", "carry_value", FOUR, "mean"), ("fused", "reset", ROWS, "sum"),
        ("fused", "carry", ("up",), "sum"),
        ("projection", "reset", FOUR, "sum"), ("projection", "carry", COLUMNS, "concat"),
    ],
)  # fmt: skip
def test_the_projecting_layer_and_its_gradients(
    fused, variant, line_break, order, combine, shared, channels_last
):
    """In float16 against float64; the bias keeps every relu open, so that rounding flips none."""
    rng, K = torch.Generator().manual_seed(3), len(order)
    inputs = 1 if shared else K

    def leaf(*shape, scale=1.0, shift=0.0):
        made = (torch.randn(*shape, generator=rng, dtype=torch.float64) * scale + shift).half()
        if channels_last and len(shape) == 4:
            made = made.contiguous(memory_format=torch.channels_last)
        return made.requires_grad_(), made.detach().double().requires_grad_()

    pairs = [
        leaf(3, 16, 2, 5),
        leaf(inputs, 64, 16, scale=0.1),
        leaf(inputs, 64, shift=9),
        leaf(K, 64, 64, scale=0.01),
    ]
    tensors, exact = zip(*pairs, strict=True)
    got = spatial_rnn(*tensors, order, line_break, "relu", combine, variant=variant)
    want = spatial_rnn(*exact, order, line_break, "relu", combine, variant="scan")
    assert want.min() > 0
    assert got.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert_near(got, want, 1e-3, "y")
    dy = torch.randn(got.shape, generator=rng).half()
    for name, one, other in zip(
        ("x", "w_ih", "bias", "w_hh"),
        torch.autograd.grad(got, tensors, dy),
        torch.autograd.grad(want, exact, dy.double()),
        strict=True,
    ):
        assert_near(one, other, 3e-3, name)


@pytest.mark.parametrize(("C", "combine"), [(0, "mean"), (16, "sum"), (16, "concat")])
def test_opcheck(emulated, C, combine):
    """Schema, fake kernel and autograd agree, with the emulated kernel in the CPU's place."""
    inputs = SpatialCase(ScanCase("ln_relu", "carry", ("right", "up"), 2, 2, 3, 8), combine, C).inputs(
        torch.half
    )
    leaves = [None if t is None else t.requires_grad_() for t in inputs.values()]
    flat = [int(v) for d in plan(("right", "up"), 2, 3, "carry") for v in d]
    library = torch.library.Library("crnn", "FRAGMENT")
    library.impl("spatial_scan", emulated.spatial_scan, "CPU")
    torch.library.opcheck(torch.ops.crnn.spatial_scan.default, (*leaves, flat, "ln_relu", combine))
    library._destroy()


@pytest.mark.parametrize("cell", ["relu", "lstm"])
def test_the_fake_kernel_knows_the_shapes_on_cuda(emulated, cell):
    case = SpatialCase(ScanCase(cell, "carry", FOUR, 2, 2, 3, 72))
    want = call(emulated, case, case.inputs(torch.half))
    with FakeTensorMode():
        inputs = {
            k: v if v is None else torch.empty_like(v, device="cuda")
            for k, v in case.inputs(torch.half).items()
        }
        flat = [int(v) for d in case.scan.plan for v in d]
        got = MODULE._fake(*inputs.values(), flat, cell, "sum")
    assert [(t.shape, t.stride()) for t in got] == [(t.shape, t.stride()) for t in want]


def test_gradients_that_nobody_wants_are_not_made(fused):
    case = SpatialCase(ScanCase("relu", "carry", FOUR, 2, 2, 3, 64), C=16)
    inputs = case.inputs(torch.half)
    inputs["bias"].requires_grad_()
    args = (inputs[k] for k in ("x", "w_ih", "bias", "w_hh"))
    y, _ = spatial_scan(*args, case.scan.plan)
    saved = [t for t in y.grad_fn.saved_tensors if t is not None]
    assert all(t is not inputs["x"] for t in saved)
    assert torch.autograd.grad(y.float().sum(), inputs["bias"])[0].isfinite().all()


@pytest.mark.parametrize("variant", ["projection", "fused"])
def test_a_layer_without_a_projection_of_its_own_is_refused(variant):
    x, w_hh = torch.zeros(1, 8, 2, 2), torch.zeros(4, 8, 8)
    with pytest.raises(ValueError, match=f"variant '{variant}' projects the map alone: it takes w_ih"):
        spatial_rnn(x, None, None, w_hh, FOUR, variant=variant)
    with pytest.raises(ValueError, match="unknown variant 'fast'; known: scan, sum, projection, fused"):
        spatial_rnn(x, None, None, w_hh, FOUR, variant="fast")


def test_ln_relu_hands_on_the_gradients_of_its_parameters(fused):
    case = SpatialCase(ScanCase("ln_relu", "carry", FOUR, 2, 2, 3, 64))
    inputs = {k: v.requires_grad_() for k, v in case.inputs(torch.half).items() if v is not None}
    args = (inputs["x"], None, None, inputs["w_hh"], case.scan.plan, "ln_relu", inputs["cell_params"])
    y, h = spatial_scan(*args)
    assert not h.requires_grad
    dy = torch.randn(y.shape).half()
    got = torch.autograd.grad(y, list(inputs.values()), dy)
    flat = [int(v) for d in case.scan.plan for v in d]
    _, state, saved = call(fused, case, case.inputs(torch.half))
    dstate = dy.transpose(0, 1).unsqueeze(2).expand(-1, -1, 4, -1).unsqueeze(0)
    rest = (
        inputs["w_hh"].detach(),
        inputs["cell_params"].detach(),
        None,
        None,
        state,
        saved,
        flat,
        "ln_relu",
        "",
    )
    dz, dparams, _ = fused.scan_backward(dstate, *rest)
    assert_near(got[0], dz, 2e-3, "dz")
    assert_near(got[2], dparams, 2e-3, "dcell_params")
