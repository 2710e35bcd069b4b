"""Layers that work element by element, and Dropout."""

import math

import pytest
import torch

from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import PrototxtError


def test_relu_has_no_gradient_at_zero_but_its_slope(make):
    x = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    for slope in (0.0, 0.25):
        x.grad = None
        (y,) = make(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', (3,))(x)
        y.sum().backward()
        assert y.tolist() == [-2 * slope, 0, 3]
        assert x.grad.tolist() == [slope, slope, 1]


@pytest.mark.parametrize(("kind", "function"), [("Sigmoid", torch.sigmoid), ("TanH", torch.tanh)])
def test_activation_of_any_shape(make, kind, function):
    x = torch.randn(2, 3, 4, 5, 6)
    layer = make(f'type: "{kind}"', x.shape)
    assert layer.top_shapes == [x.shape]
    assert layer(x)[0].equal(function(x))


@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_dropout_keeps_and_scales_in_training(make, ratio):
    torch.manual_seed(0)
    x = torch.rand(100, 50) + 1
    (y,) = make(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', x.shape)(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / (1 - ratio))
    deviation = math.sqrt(ratio * (1 - ratio) / x.numel())
    assert abs(1 - kept.float().mean().item() - ratio) < 4 * deviation


def test_dropout_passes_all_at_test_time(make):
    x = torch.rand(4, 5)
    assert make('type: "Dropout"', x.shape, phase=pb.TEST)(x)[0].equal(x)


def test_dropout_of_everything_is_refused(make):
    with pytest.raises(ValueError, match=r"dropout_ratio must be in \[0, 1\), got 1"):
        make('type: "Dropout" dropout_param { dropout_ratio: 1 }', (2, 3))


def gradient(layer, x):
    x = x.clone().requires_grad_()
    (y,) = layer(x)
    y.sum().backward()
    return y.tolist(), x.grad.tolist()


@pytest.mark.parametrize(
    ("text", "x", "y", "dx"),
    [
        ('"AbsVal"', [-2.0, 0, 3], [2, 0, 3], [-1, 0, 1]),
        ('"Clip" clip_param { min: -1 max: 2 }', [-2.0, -1, 0, 2, 3], [-1, -1, 0, 2, 2], [0, 1, 1, 1, 0]),
        ('"ELU" elu_param { alpha: 0.5 }', [0.0, 2], [0, 2], [0.5, 1]),
        ('"BNLL"', [0.0, 100, -200], [math.log(2), 100, 0], [0.5, 1, 0]),
        ('"Swish" swish_param { beta: 2 }', [0.0], [0], [0.5]),
        ('"Swish"', [0.0, 50], [0, 50], [0.5, 1]),
    ],
)
def test_values_and_gradients_at_the_corners(make, text, x, y, dx):
    values, gradients = gradient(make(f"type: {text}", (len(x),)), torch.tensor(x))
    assert values == pytest.approx(y) and gradients == pytest.approx(dx)


def test_clip_needs_its_bounds(make):
    with pytest.raises(ValueError, match="clip_param needs min and max"):
        make('type: "Clip"', (2,))


def test_prelu_learns_a_slope_a_channel_or_one_for_all(make):
    x = torch.tensor([[-2.0, 3], [-4, 0]])
    layer = make('type: "PReLU"', x.shape)
    assert layer.blobs[0].tolist() == [0.25, 0.25]
    assert gradient(layer, x) == ([[-0.5, 3], [-1, 0]], [[0.25, 1], [0.25, 0.25]])
    assert layer.blobs[0].grad.tolist() == [-6, 0]
    one = make('type: "PReLU" prelu_param { channel_shared: true filler { value: 0.5 } }', x.shape)
    assert one.blobs[0].shape == () and gradient(one, x)[0] == [[-1, 3], [-2, 0]]
    assert one.blobs[0].grad == -6
    with pytest.raises(ValueError, match=r"at least 2 axes \[N, C, ...\], got \[3\]"):
        make('type: "PReLU"', (3,))


def test_threshold_is_a_step_without_gradient(make):
    layer = make('type: "Threshold" threshold_param { threshold: 1 }', (3,))
    x = torch.tensor([0.0, 1, 2], requires_grad=True)
    (y,) = layer(x)
    assert y.tolist() == [0, 0, 1]
    with pytest.raises(
        ValueError, match=r"layer 'it' \(Threshold\) has no gradient: .* propagate_down: false"
    ):
        y.sum().backward()


def test_absval_does_not_work_in_place():
    with pytest.raises(PrototxtError, match="cannot work in place"):
        Net("""layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
            layer { name: "a" type: "AbsVal" bottom: "x" top: "x" }""")
