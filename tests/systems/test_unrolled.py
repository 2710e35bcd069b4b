"""SpatialRNN against the same layer written as Zuo 2015 wrote it in Caffe: unrolled, of stock layers.

One InnerProduct a step for W_ih x + b and one for W_hh h, their weights shared by name (section 3.2.3); where
a window begins, `propagate_down: false` keeps the value of the state before it and cuts the gradient.
"""

import functools

import pytest
import torch

from crnn.net.net import Net
from crnn.ops import backends, use_backend
from crnn.proto import pb
from crnn.proto.upgrade import read_net
from crnn.solver.solver import Solver
from crnn.testing import assert_near, relative_error

FOUR = ("right", "left", "down", "up")
BREAKS = ("carry_value", "carry", "reset")
C, D = 8, 8
SHARED = ("w_ih", "b", "w_hh")  # blobs of the fused layer in their order


def windows(direction, H, W):
    """The scan as Zuo 2015 has it: a list of windows, each the (row, column) of its regions."""
    rows = [[(i, j) for j in range(W)] for i in range(H)]
    columns = [[(i, j) for i in range(H)] for j in range(W)]
    forth = rows if direction in ("right", "left") else columns
    return forth if direction in ("right", "down") else [window[::-1] for window in forth[::-1]]


def layer(type, name, bottoms, tops, *fields):
    names = [f'bottom: "{bottom}"' for bottom in bottoms] + [f'top: "{top}"' for top in tops]
    return f'layer {{ name: "{name}" type: "{type}" {" ".join([*names, *fields])} }}'


def input_product(direction, x, top):
    """W_ih x + b."""
    weight = f'param {{ name: "w_ih_{direction}" }}'
    bias = f'param {{ name: "b_{direction}" lr_mult: 2 decay_mult: 0 }}'
    size = f"inner_product_param {{ num_output: {D} }}"
    return layer("InnerProduct", f"ih_{top}", [x], [top], f"{weight} {bias}", size)


def state_product(direction, h, top, cut):
    """W_hh h; with `cut` the gradient does not enter h."""
    param = f'param {{ name: "w_hh_{direction}" }}' + " propagate_down: false" * cut
    product = f"inner_product_param {{ num_output: {D} bias_term: false }}"
    return layer("InnerProduct", f"hh_{top}", [h], [top], param, product)


def scan(direction, H, W, line_break):
    """From x_i_j to h_<direction>_i_j, [N, D] at every region."""
    before = None
    for window in windows(direction, H, W):
        if line_break == "reset":
            before = None
        for step, (i, j) in enumerate(window):
            h = f"h_{direction}_{i}_{j}"
            if before is None:
                yield input_product(direction, f"x_{i}_{j}", h)
            else:
                yield input_product(direction, f"x_{i}_{j}", f"{h}_in")
                yield state_product(direction, before, f"{h}_re", step == 0 and line_break == "carry_value")
                yield layer("Eltwise", f"sum_{h}", [f"{h}_in", f"{h}_re"], [h])
            yield layer("ReLU", f"relu_{h}", [h], [h])
            before = h


def unrolled(H, W, line_break):
    """From x [N, C, H, W] to y [N, D, H, W]."""
    yield layer("Slice", "rows", ["x"], [f"x_{i}" for i in range(H)], "slice_param { axis: 2 }")
    for i in range(H):
        regions = [f"x_{i}_{j}" for j in range(W)]
        yield layer("Slice", f"row_{i}", [f"x_{i}"], regions, "slice_param { axis: 3 }")
    for direction in FOUR:
        yield from scan(direction, H, W, line_break)
    regions = [f"{i}_{j}" for i in range(H) for j in range(W)]
    for p in regions:
        yield layer("Eltwise", f"sum_{p}", [f"h_{direction}_{p}" for direction in FOUR], [f"sum_{p}"])
        shape = f"reshape_param {{ shape {{ dim: 0 dim: {D} dim: 1 }} }}"
        yield layer("Reshape", f"y_{p}", [f"sum_{p}"], [f"y_{p}"], shape)
    yield layer("Concat", "regions", [f"y_{p}" for p in regions], ["regions"], "concat_param { axis: 2 }")
    shape = f"reshape_param {{ shape {{ dim: 0 dim: {D} dim: {H} dim: {W} }} }}"
    yield layer("Reshape", "y", ["regions"], ["y"], shape)


def fused(line_break):
    rates = "param { } param { lr_mult: 2 decay_mult: 0 } param { }"
    setting = f'spatial_rnn_param {{ num_output: {D} line_break: "{line_break}" }}'
    return [layer("SpatialRNN", "rnn", ["x"], ["y"], rates, setting)]


def source(name, *shape):
    dims = " ".join(f"dim: {n}" for n in shape)
    return layer("Input", name, [], [name], f"input_param {{ shape {{ {dims} }} }}")


def blobs(net):
    """The layer's W_ih, b, W_hh, [4, ...], of either net; the unrolled one's are copies."""
    named = {p.name: p.parameter for p in net.params if p.name}
    if not named:
        return list(net.layer("rnn").blobs)
    return [torch.stack([named[f"{name}_{direction}"] for direction in FOUR]) for name in SHARED]


@torch.no_grad()
def copy(values, net):
    """Puts W_ih, b, W_hh into either net."""
    named = {p.name: p.parameter for p in net.params if p.name}
    for index, (name, value) in enumerate(zip(SHARED, values, strict=True)):
        if not named:
            net.layer("rnn").blobs[index].copy_(value)
            continue
        for direction, one in zip(FOUR, value, strict=True):
            named[f"{name}_{direction}"].copy_(one)


def weights():
    """W_ih, b, W_hh under which states neither die nor explode."""
    rng = torch.Generator().manual_seed(1)
    w_ih, b, w_hh = (torch.randn(4, *shape, generator=rng) for shape in ((D, C), (D,), (D, D)))
    return w_ih / C**0.5, 0.1 * b, 0.7 * w_hh / D**0.5


@functools.cache
def layer_net(kind, H, W, line_break, dtype):
    layers = fused(line_break) if kind == "fused" else unrolled(H, W, line_break)
    net = Net("\n".join([source("x", 3, C, H, W), *layers])).to(dtype)
    copy(weights(), net)
    return net


def run(net, H, W):
    """y, dx, dW_ih, db, dW_hh."""
    rng = torch.Generator().manual_seed(2)
    x, dy = (torch.randn(3, n, H, W, generator=rng).to(net.like.dtype) for n in (C, D))
    x.requires_grad_()
    for p in net.params:
        p.parameter.grad = None
    y = net(x)["y"]
    y.backward(dy)
    leaves = {p.name: p.parameter.grad for p in net.params if p.name}
    if not leaves:
        return [y, x.grad, *(blob.grad for blob in net.layer("rnn").blobs)]
    return [y, x.grad, *(torch.stack([leaves[f"{name}_{d}"] for d in FOUR]) for name in SHARED)]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-13)], ids=str)
@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("H, W", [(6, 6), (3, 4)])
def test_values_and_gradients(H, W, line_break, backend, dtype, tolerance):
    want = run(layer_net("unrolled", H, W, line_break, dtype), H, W)
    with use_backend(backend):
        got = run(layer_net("fused", H, W, line_break, dtype), H, W)
    for name, a, b in zip(("y", "dx", "dw_ih", "db", "dw_hh"), got, want, strict=True):
        assert_near(a, b, tolerance, name)


def test_the_line_breaks_differ_where_they_should():
    """So that the cases above are three: a cut changes gradients only, a reset also values."""
    carry, cut, reset = (
        run(layer_net("unrolled", 6, 6, line_break, torch.float64), 6, 6)
        for line_break in ("carry", "carry_value", "reset")
    )
    assert cut[0].equal(carry[0]) and all(
        relative_error(a, b) > 1e-3 for a, b in zip(cut[1:], carry[1:], strict=True)
    )
    assert all(relative_error(a, b) > 1e-3 for a, b in zip(reset, cut, strict=True))


SOLVER = {"base_lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}
SOLVER |= {"lr_policy": "step", "gamma": 0.1, "stepsize": 6}


def training(layers, **fields):
    """A Solver of: 1x1 convolution to x, the layer, five classes."""
    filler = 'weight_filler { type: "xavier" }'
    text = [
        source("data", 3, 4, 6, 6),
        source("label", 3),
        layer(
            "Convolution",
            "conv",
            ["data"],
            ["x"],
            f"convolution_param {{ num_output: {C} kernel_size: 1 {filler} }}",
        ),
        *layers,
        layer("InnerProduct", "fc", ["y"], ["fc"], f"inner_product_param {{ num_output: 5 {filler} }}"),
        layer("SoftmaxWithLoss", "loss", ["fc", "label"], ["loss"]),
    ]
    net = read_net("\n".join(text)).message
    solver = Solver(pb.SolverParameter(net_param=net, random_seed=1, **{**SOLVER, **fields}))
    copy(weights(), solver.net)
    return solver


@pytest.mark.parametrize("line_break", BREAKS)
def test_twelve_iterations(line_break):
    """With momentum, decay and a rate drop: shared blobs take the sum of their gradients and decay once."""
    mine, truth = training(fused(line_break)), training(unrolled(6, 6, line_break))
    around = [
        pair
        for name in ("conv", "fc")
        for pair in zip(mine.net.layer(name).blobs, truth.net.layer(name).blobs, strict=True)
    ]
    with torch.no_grad():
        for a, b in around:
            a.copy_(b)
    start, rng = [blob.clone() for blob in blobs(mine.net)], torch.Generator().manual_seed(3)
    for _ in range(12):
        data, label = torch.randn(3, 4, 6, 6, generator=rng), torch.randint(5, (3,), generator=rng).float()
        for solver in (mine, truth):
            solver.step(1, {"data": data, "label": label})
        assert mine.smoothed_loss == pytest.approx(truth.smoothed_loss, rel=1e-5)
    for name, old, a, b in zip(SHARED, start, blobs(mine.net), blobs(truth.net), strict=True):
        assert relative_error(a, old) > 0.01, f"{name} learnt nothing"
        assert_near(a, b, 1e-5, name)
    for a, b in around:
        assert_near(a, b, 1e-5, "conv or fc")


def test_a_shared_blob_decays_once_an_iteration():
    """No data, no bias: states and gradients are zero, and decay is all that moves the weights."""
    solver = training(unrolled(6, 6, "carry_value"), momentum=0)
    w_ih, b, w_hh = weights()
    copy((w_ih, torch.zeros_like(b), w_hh), solver.net)
    solver.step(1, {"data": torch.zeros(3, 4, 6, 6), "label": torch.zeros(3)})
    rate = SOLVER["base_lr"] * SOLVER["weight_decay"]
    for got, old in zip(blobs(solver.net), (w_ih, torch.zeros_like(b), w_hh), strict=True):
        torch.testing.assert_close(got, old * (1 - rate), rtol=1e-6, atol=0)
