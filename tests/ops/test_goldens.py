"""The C-RNN layer of the real Caffe, through every backend and every face of the layer."""

import numpy as np
import pytest
import torch

import crnn.nn
from crnn.layers.base import build
from crnn.ops import backends, spatial_rnn, use_backend
from crnn.proto import pb
from crnn.testing import assert_near, device_of, golden

CASES = sorted(path.name for path in golden("spatial_rnn").iterdir())
NAMES = ("y", "dx", "dwih", "db", "dwhh")


def read(case):
    data = np.load(golden(f"spatial_rnn/{case}") / "golden.npz")
    lines = str(data["topology"]) == "lines"
    line_break = "reset" if lines else "carry_value" if bool(data["truncated"]) else "carry"
    return data, tuple(str(d) for d in data["directions"]), line_break


def check(data, dtype, run, leaves):
    """run(x) -> y; `leaves` the tensors W_ih, b, W_hh that it uses."""
    x = torch.tensor(data["x"], dtype=dtype, device=leaves[0].device, requires_grad=True)
    y = run(x)
    gradients = torch.autograd.grad(y, (x, *leaves), torch.tensor(data["dy"]).to(x))
    for name, got in zip(NAMES, (y, *gradients), strict=True):
        assert_near(got, torch.tensor(data[name]), 2e-6, name)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("case", CASES)
def test_function(case, backend, dtype):
    data, directions, line_break = read(case)
    where = {"dtype": dtype, "device": device_of(backend), "requires_grad": True}
    w_ih, b, w_hh = (torch.tensor(data[k], **where) for k in ("wih", "b", "whh"))
    with use_backend(backend):
        check(data, dtype, lambda x: spatial_rnn(x, w_ih, b, w_hh, directions, line_break), (w_ih, b, w_hh))


@pytest.mark.parametrize("case", CASES)
def test_module(case):
    data, directions, line_break = read(case)
    module = crnn.nn.SpatialRNN(data["wih"].shape[2], data["wih"].shape[1], directions, line_break)
    with torch.no_grad():
        for parameter, key in zip(module.parameters(), ("wih", "b", "whh"), strict=True):
            parameter.copy_(torch.tensor(data[key]))
    check(data, torch.float32, module, (module.weight_ih, module.bias, module.weight_hh))


@pytest.mark.parametrize("case", CASES)
def test_layer(case):
    data, directions, line_break = read(case)
    param = pb.LayerParameter(name="rnn", type="SpatialRNN", bottom=["x"], top=["y"])
    param.spatial_rnn_param.num_output = data["wih"].shape[1]
    param.spatial_rnn_param.direction.extend(directions)
    param.spatial_rnn_param.line_break = line_break
    layer = build(param, [data["x"].shape])
    with torch.no_grad():
        for blob, key in zip(layer.blobs, ("wih", "b", "whh"), strict=True):
            blob.copy_(torch.tensor(data[key]))
    check(data, torch.float32, lambda x: layer(x)[0], tuple(layer.blobs))
    assert layer.top_shapes == [data["y"].shape]


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_caffes_recurrent_layers(kind):
    """Caffe's RNN is the tanh cell on a 1 x T map with `cont`, then tanh(W_ho h + b_o)."""
    from crnn.ops import plan, scan

    cell = {"rnn": "tanh", "lstm": "lstm"}[kind]
    arrays = np.load(golden(f"layers/recurrent_{kind}") / "golden.npz")
    for backend in backends():
        data = {k: torch.tensor(v, device=device_of(backend)) for k, v in arrays.items()}
        w_x, b, w_h, *output = (data[k] for k in sorted(k for k in data if k.startswith("param/")))
        x, cont = data["in/data"], data["in/cont"]
        with use_backend(backend):
            z = (x @ w_x.T + b).unsqueeze(2)
            h = scan(z, w_h.unsqueeze(0), plan(("right",), 1, len(x), "reset"), cell, cont=cont).squeeze(2)
        assert_near(torch.tanh(h @ output[0].T + output[1]) if output else h, data["out/y"], 2e-6)
