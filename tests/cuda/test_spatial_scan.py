"""crnn::spatial_scan, the scan with its neighbours fused, under emulation."""

import importlib
import itertools
from functools import reduce

import pytest
import torch

from crnn.ops import ORDERS, LineBreak, plan, spatial_rnn, spatial_scan
from crnn.ops.reference import CELLS
from crnn.ops.spatial_scan import same_positions
from crnn.ops.spatial_scan_reference import spatial_scan as definition
from crnn.testing import FOUR, ScanCase, SpatialCase, assert_near, spatial_scan_cases

MODULE = importlib.import_module("crnn.ops.spatial_scan")  # crnn.ops has the function of this name
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

    monkeypatch.setattr(MODULE, "_kernel", lambda x: Emulated.apply)
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


def test_equal_input_gives_equal_bits(emulated):
    case = SpatialCase(ScanCase("ln_relu", "reset", ROWS, 5, 3, 2, 128))
    first, second = (check(emulated, case, torch.bfloat16) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


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
    want = spatial_rnn(*exact, order, line_break, cell, combine)
    assert_near(got, want, 3e-3, "y")
    dy = torch.randn(got.shape, generator=rng)
    for name, one, other in zip(
        ("x", "w_ih", "bias", "w_hh"),
        torch.autograd.grad(got, tensors, dy.half()),
        torch.autograd.grad(want, exact, dy.half().double()),
        strict=True,
    ):
        assert_near(one, other, 5e-3, name)


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


def test_a_tensor_elsewhere_is_refused():
    case = SpatialCase(ScanCase("relu", "carry", FOUR, 1, 2, 2, 8))
    inputs = case.inputs(torch.half)
    with pytest.raises(ValueError, match="kernels for CUDA alone, got a tensor on cpu; use scan"):
        spatial_scan(inputs["x"], None, None, inputs["w_hh"], case.scan.plan)
