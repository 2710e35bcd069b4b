"""ReLU, Sigmoid, TanH, Dropout."""

import math

import pytest
import torch

from crnn.proto import pb


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
