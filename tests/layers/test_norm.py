"""BatchNorm's statistics and Scale's shapes."""

import pytest
import torch

from crnn.proto import pb
from crnn.testing import assert_near


def test_batch_norm_normalises_each_channel_in_training(make):
    x = torch.randn(5, 3, 4, 4) * 3 + 2
    (y,) = make('type: "BatchNorm"', x.shape)(x)
    assert y.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(y.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_batch_norm_keeps_running_sums_by_caffes_rule(make):
    layer = make('type: "BatchNorm" batch_norm_param { moving_average_fraction: 0.9 }', (5, 3, 4, 4))
    mean, variance, factor = torch.zeros(3), torch.zeros(3), 0.0
    for _ in range(3):
        x = torch.randn(5, 3, 4, 4) + 1
        layer(x)
        mean = 0.9 * mean + x.mean((0, 2, 3))
        variance = 0.9 * variance + x.var((0, 2, 3), correction=1)
        factor = 0.9 * factor + 1
    for blob, want in zip(layer.blobs, (mean, variance, torch.tensor([factor])), strict=True):
        assert_near(blob, want, 2e-6)
        assert not blob.requires_grad


def test_batch_norm_divides_the_sums_by_the_factor_at_test_time(make):
    layer = make('type: "BatchNorm" batch_norm_param { eps: 0.1 }', (2, 3, 2, 2), phase=pb.TEST)
    x = torch.randn(2, 3, 2, 2)
    assert_near(layer(x)[0], x / 0.1**0.5, 2e-6)  # factor 0: no batch seen
    for blob, values in zip(layer.blobs, ([2.0, 4, 6], [8.0, 4, 2], [2.0]), strict=True):
        blob.data.copy_(torch.tensor(values))
    mean, variance = torch.tensor([1.0, 2, 3])[:, None, None], torch.tensor([4.0, 2, 1])[:, None, None]
    assert_near(layer(x)[0], (x - mean) / (variance + 0.1).sqrt(), 2e-6)
    assert layer.blobs[2].item() == 2


@pytest.mark.parametrize("shape", [(6,), (6, 3), (1, 3), (0, 3, 2, 2), (2, 3, 2, 2, 2)])
def test_batch_norm_of_any_shape(make, shape):
    layer = make('type: "BatchNorm"', shape)
    assert layer(torch.randn(shape))[0].shape == shape
    assert all(blob.isfinite().all() for blob in layer.blobs)


def scale(text):
    return f'type: "Scale" scale_param {{ {text} }}'


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", (3,)),
        ("axis: 0", (2,)),
        ("axis: 0 num_axes: -1", (2, 3, 4, 5)),
        ("axis: 1 num_axes: 2", (3, 4)),
        ("axis: -1", (5,)),
        ("num_axes: 0", ()),
    ],
)
def test_scale_multiplies_its_axes_and_adds_the_bias(make, text, want):
    x = torch.randn(2, 3, 4, 5)
    layer = make(scale(f"{text} bias_term: true"), x.shape)
    assert [tuple(blob.shape) for blob in layer.blobs] == [want, want]
    assert layer(x)[0].equal(x)  # scale 1 and bias 0, unless filled otherwise
    for blob in layer.blobs:
        blob.data.normal_()
    first = next(i for i in range(5) if x.shape[i : i + len(want)] == want)
    s, b = (blob.reshape(want + (1,) * (4 - first - len(want))) for blob in layer.blobs)
    torch.testing.assert_close(layer(x)[0], x * s + b)


def test_scale_by_a_second_bottom(make):
    x, s = torch.randn(2, 3, 4, 5), torch.randn(3, 4)
    layer = make(scale("bias_term: true"), x.shape, s.shape)
    assert [tuple(blob.shape) for blob in layer.blobs] == [(3, 4)]
    assert layer(x, s)[0].equal(x * s[:, :, None])
    assert make(scale(""), x.shape, ())(x, torch.tensor(2.0))[0].equal(2 * x)


def test_scale_fills_as_told(make):
    layer = make(
        scale('filler { type: "constant" value: 3 } bias_term: true bias_filler { value: 2 }'), (2, 3)
    )
    assert layer(torch.ones(2, 3))[0].equal(torch.full((2, 3), 5.0))


def test_bad_scales(make):
    with pytest.raises(ValueError, match="num_axes 4 do not fit the bottom"):
        make(scale("num_axes: 4"), (2, 3))
    with pytest.raises(ValueError, match=r"the scale \[4\] does not fit the bottom \[2, 3\] at axis 1"):
        make(scale(""), (2, 3), (4,))


@pytest.mark.parametrize(
    ("text", "shape"), [("", (3,)), ("axis: -2 num_axes: -1", (4, 5)), ("num_axes: 0", ())]
)
def test_bias_adds_along_its_axes(make, text, shape):
    x = torch.randn(2, 3, 4, 5)
    layer = make(f'type: "Bias" bias_param {{ {text} filler {{ type: "gaussian" }} }}', x.shape)
    assert layer.blobs[0].shape == shape
    b = layer.blobs[0]
    want = x + (b[:, None, None] if shape == (3,) else b)
    assert layer(x)[0].equal(want)


def test_bias_from_a_bottom(make):
    x, b = torch.randn(2, 3, 4), torch.randn(2, 3, requires_grad=True)
    layer = make('type: "Bias" bias_param { axis: 0 }', x.shape, b.shape)
    (y,) = layer(x, b)
    assert len(layer.blobs) == 0 and y.equal(x + b[..., None])
    y.sum().backward()
    assert b.grad.tolist() == [[4, 4, 4]] * 2
    with pytest.raises(ValueError, match=r"the bias \[2, 4\] does not fit the bottom \[2, 3, 4\] at axis 0"):
        make('type: "Bias" bias_param { axis: 0 }', x.shape, (2, 4))


@pytest.mark.parametrize(("text", "axes"), [("", (2, 3)), ("across_channels: true", (1, 2, 3))])
def test_mvn_gives_mean_zero_and_deviation_one(make, text, axes):
    x = torch.randn(2, 3, 4, 5) * 3 + 1
    (y,) = make(f'type: "MVN" mvn_param {{ {text} }}', x.shape)(x)
    torch.testing.assert_close(y.mean(axes), torch.zeros_like(y.mean(axes)), atol=1e-6, rtol=0)
    torch.testing.assert_close(y.square().mean(axes), torch.ones_like(y.mean(axes)))
    (centred,) = make(f'type: "MVN" mvn_param {{ {text} normalize_variance: false }}', x.shape)(x)
    assert_near(centred, x - x.mean(axes, keepdim=True), 2e-6)


def test_mvn_adds_eps_to_the_deviation_and_survives_a_flat_map(make):
    x = torch.tensor([[[[1.0, 3]], [[2, 2]]]], requires_grad=True)
    (y,) = make('type: "MVN" mvn_param { eps: 1 }', x.shape)(x)
    assert y.flatten().tolist() == [-0.5, 0.5, 0, 0]
    (y * torch.tensor([1.0, 2])).sum().backward()
    assert x.grad.isfinite().all()


def test_mvn_makes_four_axes(make):
    layer = make('type: "MVN" mvn_param { across_channels: true }', (2, 3))
    assert layer.top_shapes == [(2, 3, 1, 1)] and layer(torch.randn(2, 3))[0].shape == (2, 3, 1, 1)
    with pytest.raises(ValueError, match="at most 4 axes"):
        make('type: "MVN"', (1, 2, 3, 4, 5))
