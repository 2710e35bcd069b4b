"""Training in bfloat16 and float16, and by torch.compile: near what it replaces, exact over a resume."""

import pytest
import torch

from crnn.solver.events import Note
from crnn.solver.solver import Solver

NET = """
  layer { name: "data" type: "Input" top: "data" top: "label"
    input_param { shape { dim: 8 dim: 3 dim: 6 dim: 6 } shape { dim: 8 } } }
  layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
    convolution_param { num_output: 16 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
  layer { name: "norm" type: "LRN" bottom: "conv" top: "norm" lrn_param { local_size: 3 } }
  layer { name: "rnn" type: "SpatialRNN" bottom: "norm" top: "rnn"
    spatial_rnn_param { num_output: 16 direction: "right" direction: "down" weight_filler { type: "xavier" }
      recurrent_filler { type: "identity" value: 0.2 } } }
  layer { name: "fc" type: "InnerProduct" bottom: "rnn" top: "fc"
    inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
  layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" loss_weight: WEIGHT }
"""


def solver(precision, weight=1.0, notes=None, device="cpu", **fields):
    notes = [] if notes is None else notes
    more = " ".join(f"{name}: {value}" for name, value in fields.items())
    return Solver(
        f'base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" random_seed: 2 precision: "{precision}" {more} '
        f"net_param {{ {NET.replace('WEIGHT', str(weight))} }}",
        [lambda event: notes.append(event.text) if isinstance(event, Note) and event.shown else None],
        device=device,
    )


def batch():
    rng = torch.Generator().manual_seed(4)
    return {
        "data": torch.randn(8, 3, 6, 6, generator=rng),
        "label": torch.randint(4, (8,), generator=rng).float(),
    }


def weights(one):
    return torch.cat([param.blob.detach().flatten() for param in one.params])


@pytest.mark.parametrize("precision, tolerance", [("bfloat16", 3e-2), ("float16", 4e-3)])
def test_ten_updates_stay_near_float32(precision, tolerance):
    exact, short = solver("float32"), solver(precision)
    start = weights(exact)
    for one in (exact, short):
        one.step(10, batch())
    assert short.net.blobs["conv"].dtype is short.precision.dtype  # else nothing was shortened
    assert all(param.blob.dtype is torch.float32 for param in short.params)
    way, apart = weights(exact) - start, weights(short) - weights(exact)
    assert 0 < apart.norm() <= tolerance * way.norm()
    assert short.smoothed_loss == pytest.approx(exact.smoothed_loss, rel=tolerance)


def test_a_gradient_that_overflows_moves_nothing_and_halves_the_scale():
    notes = []
    one = solver("float16", weight=1e4, notes=notes)
    before, scale = weights(one), one.precision.scaler.get_scale()
    one.step(1, batch())
    assert torch.equal(weights(one), before)
    assert one.precision.scaler.get_scale() == scale / 2
    assert notes == ["Iteration 0, no update: gradients overflowed float16"]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_resumed_equals_unbroken_to_the_bit(precision, tmp_path):
    fields = {"snapshot_prefix": f'"{tmp_path}/a"', "weight": 30}  # float16's first scale overflows
    unbroken = solver(precision, **fields)
    unbroken.step(6, batch())
    state = unbroken.snapshot()
    resumed = solver(precision, **fields)
    resumed.restore(state)
    assert resumed.precision.state() == unbroken.precision.state()
    for one in (unbroken, resumed):
        one.step(4, batch())
    assert torch.equal(weights(resumed), weights(unbroken))


@pytest.mark.parametrize(
    "precision, fields, message",
    [
        ("float32", {"compile": '"faster"'}, "unknown compile 'faster'; torch.compile has default, "),
        ("float32", {"compile": '"default"', "debug_info": "true"}, "without debug_info"),
        ("half", {}, "unknown precision 'half'; known: float32, bfloat16, float16"),
        ("float16", {"window_update": '"cycle"'}, 'window_update: "cycle" does not go with precision'),
    ],
)
def test_what_cannot_be(precision, fields, message):
    with pytest.raises(ValueError, match=message):
        solver(precision, **fields)


def train_compiled(mode, precision, tolerance, device="cpu"):
    plain = solver(precision, device=device)
    compiled = solver(precision, device=device, compile=f'"{mode}"')
    start = weights(plain)
    for one in (plain, compiled):
        one.step(5, batch())
    assert set(compiled.net.blobs) == {"data", "label", "loss"}  # else it ran layer by layer
    way, apart = weights(plain) - start, weights(compiled) - weights(plain)
    assert apart.norm() <= tolerance * way.norm()


def test_compiled_nets_train_alike():
    train_compiled("default", "float32", 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: CUDA graphs")
@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-5), ("bfloat16", 3e-2)])
def test_cuda_graphs_train_alike(precision, tolerance):
    train_compiled("reduce-overhead", precision, tolerance, "cuda")
