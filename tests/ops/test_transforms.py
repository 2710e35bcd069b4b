"""crnn::scan under torch's autocast, vmap, torch.func and torch.export."""

import io

import pytest
import torch

from crnn.nn import SpatialRNN
from crnn.ops import backends, lrn, plan, reference, scan, spatial_rnn, use_backend
from crnn.testing import FOUR, ScanCase, assert_near

pytestmark = pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
NAMES = ("z", "w_hh", "cell_params", "initial", "cont")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("cell", reference.CELLS)
def test_autocast_runs_in_its_dtype(cell, dtype, backend):
    case = ScanCase(cell, "carry_value", FOUR, 2, 3, 2, 8, with_initial=True, with_cont=True)
    inputs = case.inputs(torch.float32)
    leaves = {k: v.requires_grad_() for k, v in inputs.items() if v is not None}
    with use_backend(backend):
        with torch.autocast("cpu", dtype=dtype):
            h = scan(plan=case.plan, cell=cell, **inputs)
        gradients = torch.autograd.grad(h.float().square().sum(), [leaves["z"], leaves["w_hh"]])
        cast = {k: None if v is None else v.to(dtype) for k, v in inputs.items()}
        assert torch.equal(h, scan(plan=case.plan, cell=cell, **cast))
    assert h.dtype == dtype
    assert all(g.dtype == torch.float32 for g in gradients)
    with use_backend("reference"):
        want = scan(plan=case.plan, cell=cell, **inputs)
    assert_near(h, want, 2e-2 if dtype == torch.bfloat16 else 3e-3)


def test_autocast_leaves_float64_alone():
    case = ScanCase("relu", "reset", FOUR, 2, 3, 2, 8)
    inputs = case.inputs(torch.float64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scan(plan=case.plan, **inputs), scan(plan=case.plan, **inputs).double())


def test_a_layer_trains_under_autocast():
    rnn, x = SpatialRNN(6, 5), torch.randn(2, 6, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = rnn(x)
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in rnn.parameters())
    assert_near(y, rnn(x), 1e-2)


def test_autocast_inside_a_compiled_graph():
    rnn, x = SpatialRNN(6, 5), torch.randn(2, 6, 4, 4)
    torch._dynamo.reset()

    def forward(x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return rnn(x)

    assert torch.equal(torch.compile(forward, fullgraph=True, backend="aot_eager")(x), forward(x))


# Which of z, w_hh, cell_params, initial, cont differ among the calls of a vmap.
SHARES = [
    ("z",),
    ("w_hh",),
    ("z", "w_hh"),
    ("z", "cont"),
    ("w_hh", "cont"),
    ("initial",),
    ("cell_params", "z"),
]


@pytest.mark.parametrize("batched", SHARES, ids=",".join)
@pytest.mark.parametrize("cell", ["relu", "ln_relu", "gru", "lstm"])
def test_vmap_is_the_calls_one_by_one(cell, batched):
    """Values, and per-call gradients in all that the calls take."""
    case = ScanCase(cell, "carry_value", FOUR, 2, 3, 2, 3, with_initial=True, with_cont=True)
    draws = [case.inputs(seed=n) for n in range(3)]
    if draws[0]["cell_params"] is None:
        batched = tuple(b for b in batched if b != "cell_params")
    names = [n for n in NAMES if draws[0][n] is not None]
    learned = tuple(range(len(names) - 1))  # all but cont

    def energy(*tensors):
        h = scan(plan=case.plan, cell=cell, **dict(zip(names, tensors, strict=True)))
        return (h.square().sum(), h)

    stacked = [torch.stack([d[n] for d in draws], 1) if n in batched else draws[0][n] for n in names]
    both = torch.func.grad(energy, argnums=learned, has_aux=True)
    got = torch.vmap(both, in_dims=tuple(1 if n in batched else None for n in names))(*stacked)
    for call, draw in enumerate(draws):
        tensors = [(draw if n in batched else draws[0])[n].clone().requires_grad_(n != "cont") for n in names]
        loss, h = energy(*tensors)
        assert_near(got[1][call], h, 1e-14)
        want = torch.autograd.grad(loss, tensors[:-1])
        for name, a, b in zip(names, got[0], want, strict=False):
            assert_near(a[call], b, 1e-13, name)


def test_vmap_in_vmap():
    case = ScanCase("relu", "reset", ("right", "up"), 2, 2, 3, 4)
    z = torch.stack([torch.stack([case.inputs(seed=a + b)["z"] for a in (0, 1)]) for b in (2, 4)])
    w = case.inputs()["w_hh"]
    got = torch.vmap(torch.vmap(lambda z: scan(z, w, case.plan)))(z)
    for a in (0, 1):
        for b in (0, 1):
            assert torch.equal(got[a, b], scan(z[a, b], w, case.plan))


def test_a_jacobian_is_one_batched_backward():
    case = ScanCase("tanh", "carry", ("right",), 1, 2, 2, 3)
    z, w = case.inputs()["z"], case.inputs()["w_hh"]
    want = torch.autograd.functional.jacobian(lambda z: scan(z, w, case.plan), z)
    for got in (
        torch.autograd.functional.jacobian(lambda z: scan(z, w, case.plan), z, vectorize=True),
        torch.func.jacrev(lambda z: scan(z, w, case.plan))(z),
    ):
        assert_near(got, want, 1e-14)


def test_an_ensemble_of_layers_in_one_call():
    rnns = [SpatialRNN(4, 3, cell="ln_relu").double() for _ in range(3)]
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    for rnn in rnns:
        torch.nn.init.normal_(rnn.weight_hh, std=0.3)
    stacked, buffers = torch.func.stack_module_state(rnns)
    got = torch.vmap(lambda p: torch.func.functional_call(rnns[0], (p, buffers), (x,)))(stacked)
    for one, rnn in zip(got, rnns, strict=True):
        assert_near(one, rnn(x), 1e-12)


@pytest.mark.parametrize("cell", reference.CELLS)
def test_exports_with_any_batch_size(cell):
    """torch.export keeps the scan as one node; the saved program runs on another batch.

    In float64: three channels that are almost equal make a layer norm amplify any rounding.
    """
    rnn = SpatialRNN(4, 3, cell=cell, directions=("right", "up")).double().eval()
    torch.nn.init.normal_(rnn.weight_hh, std=0.3)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(rnn, (torch.randn(2, 4, 3, 5).double(),), dynamic_shapes={"x": {0: batch}})
    assert sum(node.target is torch.ops.crnn.scan.default for node in program.graph.nodes) == 1
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for N in (1, 5):
        x = torch.randn(N, 4, 3, 5, dtype=torch.float64)
        blobs = rnn.weight_ih, rnn.bias, rnn.weight_hh, rnn.directions, rnn.line_break, cell
        assert torch.equal(loaded(x), spatial_rnn(x, *blobs, gain=rnn.gain, variant="scan"))
        assert_near(loaded(x), rnn(x), 1e-12)


W_HH = torch.randn(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) / 3


def tanh_of(z):
    return scan(z, W_HH, plan(("right", "up"), 2, 3, "carry"), "tanh")


def lrn_of(z):
    return lrn(z, 3)


def draw(*shape):
    return torch.randn(*shape, 6, 2, 2, 4, dtype=torch.float64)


@pytest.mark.parametrize("op", [tanh_of, lrn_of])
def test_transforms_around_a_vmap(op):
    def loss(z):
        return torch.vmap(op)(z).square().sum()

    z = draw(3)
    got = torch.func.grad(loss)(z)
    with use_backend("reference"):
        assert_near(got, torch.func.grad(loss)(z), 1e-13)


@pytest.mark.parametrize("op", [tanh_of, lrn_of])
def test_a_second_derivative_is_refused_and_the_references_is_right(op):
    """torch's own fallback takes the gradient of a backward op for zero, under torch.func without a word."""

    def loss(z):
        return op(z).square().sum()

    def penalty(z):
        return torch.func.grad(loss)(z).square().sum()

    def eager(z):
        leaf = z.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
        return torch.autograd.grad(g.square().sum(), leaf)[0]

    z = draw()
    ways = (
        eager,
        torch.func.grad(penalty),
        torch.func.jacrev(torch.func.jacrev(loss)),
        lambda z: torch.autograd.functional.hessian(loss, z),
    )
    for way in ways:
        with pytest.raises(RuntimeError, match="is not differentiable: for second derivatives"):
            way(z)
    with use_backend("reference"):
        got = ways[0](z)
        assert_near(ways[1](z), got, 1e-13)
    h, direction = 1e-6, draw()
    first = [torch.func.grad(loss)(z + step * direction) for step in (h, -h)]
    ahead = [g.square().sum() for g in first]
    assert_near((got * direction).sum(), (ahead[0] - ahead[1]) / (2 * h), 1e-6)


def test_a_layer_maps_over_its_input():
    rnn, x = SpatialRNN(3, 4).double(), torch.randn(5, 2, 3, 3, 4, dtype=torch.float64)
    assert_near(torch.vmap(rnn)(x), torch.stack([rnn(v) for v in x]), 1e-14)


def test_a_layers_jacobian_is_one_batched_backward():
    rnn, x = SpatialRNN(3, 4).double(), torch.randn(2, 3, 2, 3, dtype=torch.float64)
    want = torch.autograd.functional.jacobian(rnn, x)
    assert_near(torch.autograd.functional.jacobian(rnn, x, vectorize=True), want, 1e-14)


def test_torch_func_under_autocast():
    rnn, x = SpatialRNN(3, 4, cell="tanh"), torch.randn(2, 3, 3, 4)

    def loss(x):
        return rnn(x).float().sum()

    leaf = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert_near(torch.func.grad(loss)(x), torch.autograd.grad(loss(leaf), leaf)[0], 2e-2)


@pytest.mark.parametrize("op", [tanh_of, lrn_of, lambda z: SpatialRNN(2, 3).double()(z)])
def test_a_forward_derivative_is_refused_not_dropped(op):
    refused = pytest.raises(NotImplementedError, match="jvp")
    with torch.no_grad(), torch.autograd.forward_ad.dual_level(), refused:
        op(torch.autograd.forward_ad.make_dual(draw(), draw()))
