"""crnn.nn.SpatialRNN: shapes, initial state, and what it refuses. Its numbers: ops/test_goldens.py."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import crnn.nn
from crnn.ops import backends
from crnn.testing import assert_near


@pytest.mark.parametrize(("combine", "channels"), [("sum", 5), ("mean", 5), ("concat", 20)])
def test_shapes(combine, channels):
    rnn = crnn.nn.SpatialRNN(3, 5, combine=combine)
    assert rnn(torch.randn(2, 3, 4, 6)).shape == (2, channels, 4, 6)
    assert [tuple(p.shape) for p in rnn.parameters()] == [(4, 5, 3), (4, 5), (4, 5, 5)]


def test_combinations_agree():
    torch.manual_seed(0)
    x, rnns = (
        torch.randn(2, 3, 4, 5),
        {c: crnn.nn.SpatialRNN(3, 6, combine=c) for c in ("sum", "mean", "concat")},
    )
    torch.nn.init.normal_(rnns["sum"].weight_hh, std=0.3)
    for rnn in rnns.values():
        rnn.load_state_dict(rnns["sum"].state_dict())
    by_direction = rnns["concat"](x).unflatten(1, (4, 6))
    assert_near(rnns["sum"](x), by_direction.sum(1), 1e-6)
    assert_near(rnns["mean"](x), by_direction.mean(1), 1e-6)


def test_starts_as_a_1x1_convolution_per_direction():
    rnn = crnn.nn.SpatialRNN(3, 4, directions=("right",))
    x = torch.randn(2, 3, 4, 5)
    assert_near(rnn(x), torch.relu(torch.nn.functional.conv2d(x, rnn.weight_ih[0, :, :, None, None])), 1e-6)


def test_identity_over_four_passes_a_non_negative_map_unchanged():
    """The degenerate point: W_hh = 0, W_ih = I / 4, b = 0. (W_ih = I would give 4 x by eq. 7.)"""
    rnn, x = crnn.nn.SpatialRNN(6, 6), torch.rand(2, 6, 3, 3)
    with torch.no_grad():
        rnn.weight_ih.copy_(torch.eye(6).expand(4, 6, 6) / 4)
    assert torch.equal(rnn(x), x)


def test_channels_last_input_gives_the_same_bits():
    rnn, x = crnn.nn.SpatialRNN(8, 8), torch.randn(2, 8, 4, 4)
    assert_near(rnn(x.to(memory_format=torch.channels_last)), rnn(x), 1e-6)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 3, 1, 1), (2, 3, 1, 5), (2, 3, 5, 1)])
def test_odd_maps(shape):
    rnn = crnn.nn.SpatialRNN(3, 2)
    x = torch.randn(shape, requires_grad=True)
    rnn(x).sum().backward()
    assert x.grad.shape == x.shape and not x.grad.isnan().any()


def test_without_bias():
    rnn = crnn.nn.SpatialRNN(3, 2, bias=False)
    assert rnn.bias is None and len(list(rnn.parameters())) == 2
    rnn(torch.randn(1, 3, 2, 2))


def test_saves_and_loads():
    a, b = crnn.nn.SpatialRNN(3, 2), crnn.nn.SpatialRNN(3, 2)
    b.load_state_dict(a.state_dict())
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(a(x), b(x))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"directions": ("north",)}, "unknown direction 'north'"),
        ({"directions": ()}, "at least one direction"),
        ({"line_break": "stop"}, "unknown line_break 'stop'"),
        ({"cell": "elu"}, "unknown cell 'elu'"),
        ({"combine": "max"}, "unknown combine 'max'"),
        ({"num_output": 0}, "must be at least 1"),
    ],
)
def test_wrong_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        crnn.nn.SpatialRNN(**{"in_channels": 3, "num_output": 2, **arguments})


def test_wrong_input():
    with pytest.raises(ValueError, match=r"the map must be \[N, 3, H, W\], got \[2, 4, 5, 5\]"):
        crnn.nn.SpatialRNN(3, 2)(torch.zeros(2, 4, 5, 5))


def test_ln_relu_adds_its_bias_after_the_normalisation():
    rnn, x = crnn.nn.SpatialRNN(3, 8, ("right",), cell="ln_relu"), torch.randn(1, 3, 1, 1)
    with torch.no_grad():
        rnn.gain.zero_()
        rnn.bias.copy_(torch.arange(8.0))
    assert torch.equal(rnn(x).flatten(), torch.arange(8.0))


class CopiesSeen(TorchDispatchMode):
    """The names of the ops of a block that copy or fill a tensor of `size` values or more."""

    COPIES = ("clone", "copy_", "_to_copy", "contiguous", "zeros", "select_backward", "cat", "stack")

    def __init__(self, size):
        super().__init__()
        self.size, self.names = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in self.COPIES and result.numel() >= self.size:
            self.names.append(name)
        return result


@pytest.mark.skipif("cpu" not in backends(), reason="needs the compiled extension")
@pytest.mark.parametrize("cell", ["relu", "tanh", "ln_relu", "gru", "half_gru"])
@pytest.mark.parametrize("combine", ["sum", "mean"])
def test_a_channels_last_map_is_never_copied(cell, combine):
    rnn = crnn.nn.SpatialRNN(8, 8, cell=cell, combine=combine)
    x, dy = (torch.randn(2, 8, 9, 10).to(memory_format=torch.channels_last) for _ in range(2))
    with CopiesSeen(x.numel()) as seen:
        y = rnn(x.requires_grad_())
        dx = torch.autograd.grad(y, (x, *rnn.parameters()), dy)[0]
    assert seen.names == []
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert dx.is_contiguous(memory_format=torch.channels_last)
