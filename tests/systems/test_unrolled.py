"""SpatialRNN against the same layer written as Zuo 2015 wrote it in Caffe: unrolled, of stock layers."""

import functools

import pytest
import torch

from benchmarks.unrolled import FOUR, SHARED, layer, source, unrolled
from crnn.net.net import Net
from crnn.ops import backends, use_backend
from crnn.proto import pb
from crnn.proto.upgrade import read_net
from crnn.solver.solver import Solver
from crnn.testing import assert_near, relative_error

BREAKS = ("carry_value", "carry", "reset")
C, D = 8, 8


def fused(line_break):
    rates = "param { } param { lr_mult: 2 decay_mult: 0 } param { }"
    setting = f'spatial_rnn_param {{ num_output: {D} line_break: "{line_break}" }}'
    return [layer("SpatialRNN", "rnn", ["x"], ["y"], rates, setting)]


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
    layers = fused(line_break) if kind == "fused" else unrolled(H, W, line_break, D)
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
    mine, truth = training(fused(line_break)), training(unrolled(6, 6, line_break, D))
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
    solver = training(unrolled(6, 6, "carry_value", D), momentum=0)
    w_ih, b, w_hh = weights()
    copy((w_ih, torch.zeros_like(b), w_hh), solver.net)
    solver.step(1, {"data": torch.zeros(3, 4, 6, 6), "label": torch.zeros(3)})
    rate = SOLVER["base_lr"] * SOLVER["weight_decay"]
    for got, old in zip(blobs(solver.net), (w_ih, torch.zeros_like(b), w_hh), strict=True):
        torch.testing.assert_close(got, old * (1 - rate), rtol=1e-6, atol=0)
