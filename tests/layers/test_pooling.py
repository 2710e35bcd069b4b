"""Pooling: Caffe's sizes, borders, ties and windows outside of the map."""

import numpy as np
import pytest
import torch

LOWEST = torch.finfo(torch.float32).min


def pooling(text):
    return f'type: "Pooling" pooling_param {{ {text} }}'


def image(*rows):
    return torch.tensor(rows, dtype=torch.float32)[None, None]


@pytest.mark.parametrize(
    ("text", "size", "want"),
    [
        ("kernel_size: 3 stride: 2", (6, 5), (3, 2)),
        ("kernel_size: 3 stride: 2 pad: 1", (6, 5), (4, 3)),
        ("global_pooling: true", (6, 5), (1, 1)),
        ("kernel_size: 3 stride: 2", (55, 13), (27, 6)),
        ("kernel_size: 2 stride: 2 round_mode: FLOOR", (5, 5), (2, 2)),
        ("kernel_size: 2 stride: 2", (5, 5), (3, 3)),
        ("kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0", (6, 5), (4, 4)),
        ("kernel_size: 1 stride: 3", (5, 5), (3, 3)),
    ],
)
def test_size_is_rounded_up_unless_padding_alone_would_fill_the_last_window(make, text, size, want):
    layer = make(pooling(text), (2, 3, *size))
    assert layer.top_shapes == [(2, 3, *want)]
    assert layer(torch.zeros(2, 3, *size))[0].shape == (2, 3, *want)


def test_maximum_and_its_index(make):
    layer = make(pooling("kernel_size: 2"), (1, 1, 3, 5), tops=2)
    top, mask = layer(image([1, 2, 5, 2, 3], [9, 4, 1, 4, 8], [1, 2, 5, 2, 3]))
    assert top.equal(image([9, 5, 5, 8], [9, 5, 5, 8]))
    assert mask.equal(image([5, 2, 2, 9], [5, 12, 12, 9]))


def test_maximum_of_a_rectangular_kernel(make):
    magic = image(
        [35, 1, 6, 26, 19, 24],
        [3, 32, 7, 21, 23, 25],
        [31, 9, 2, 22, 27, 20],
        [8, 28, 33, 17, 10, 15],
        [30, 5, 34, 12, 14, 16],
        [4, 36, 29, 13, 18, 11],
    )
    (top,) = make(pooling("kernel_h: 3 kernel_w: 2"), (1, 1, 6, 6))(magic)
    want = [[35, 32, 26, 27, 27], [32, 33, 33, 27, 27], [31, 34, 34, 27, 27], [36, 36, 34, 18, 18]]
    assert top.equal(image(*want))


def test_maximum_with_more_padding_than_half_a_kernel(make):
    layer = make(pooling("kernel_size: 3 stride: 2 pad: 2"), (1, 1, 3, 3), tops=2)
    top, mask = layer(image([1, 2, 4], [2, 3, 2], [4, 2, 1]))
    assert top.equal(image([1, 4, 4], [4, 4, 4], [4, 4, 1]))
    assert mask.equal(image([0, 2, 2], [6, 2, 2], [6, 6, 8]))


def test_the_gradient_of_a_tie_goes_to_the_first_maximum(make):
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    make(pooling("kernel_size: 2"), x.shape)(x)[0].sum().backward()
    assert x.grad.equal(image([1, 0], [0, 0]))


def test_average_counts_the_padding(make):
    (top,) = make(pooling("pool: AVE kernel_size: 3 pad: 1"), (1, 1, 3, 3))(torch.full((1, 1, 3, 3), 2.0))
    row, middle = [8 / 9, 4 / 3, 8 / 9], [4 / 3, 2, 4 / 3]
    torch.testing.assert_close(top, image(row, middle, row))


def average_by_hand(x, k, s, p, out):
    """Caffe's loop: the divisor is the window cut at H + pad, the sum runs over real pixels."""
    H, W = x.shape
    y = np.empty(out, np.float32)
    for i, j in np.ndindex(*out):
        h, w = i * s - p, j * s - p
        h_end, w_end = min(h + k, H + p), min(w + k, W + p)
        area = (h_end - h) * (w_end - w)
        y[i, j] = x[max(h, 0) : min(h_end, H), max(w, 0) : min(w_end, W)].sum() / np.float32(area)
    return y


@pytest.mark.parametrize("size", range(4, 9))
@pytest.mark.parametrize(("k", "s", "p"), [(3, 2, 0), (3, 2, 1), (3, 2, 2), (2, 3, 1), (4, 3, 3), (5, 2, 0)])
def test_average_of_any_geometry(make, size, k, s, p):
    x = torch.rand(1, 1, size, size + 1)
    layer = make(pooling(f"pool: AVE kernel_size: {k} stride: {s} pad: {p}"), x.shape)
    want = average_by_hand(x[0, 0].numpy(), k, s, p, layer.top_shapes[0][2:])
    torch.testing.assert_close(layer(x)[0][0, 0], torch.from_numpy(want))


def test_a_window_outside_of_the_map_is_kept_as_caffe_keeps_it(make):
    x = torch.rand(1, 1, 5, 5).requires_grad_()
    top, mask = make(pooling("kernel_size: 1 stride: 3"), x.shape, tops=2)(x)
    assert top[0, 0, 2].equal(torch.full((3,), LOWEST)) and top[0, 0, :, 2].equal(torch.full((3,), LOWEST))
    assert top[0, 0, :2, :2].equal(x[0, 0, ::3, ::3])
    assert mask[0, 0].equal(torch.tensor([[0.0, 3, -1], [15, 18, -1], [-1, -1, -1]]))
    top[0, 0, :2, :2].sum().backward()
    assert x.grad.sum() == 4
    (average,) = make(pooling("pool: AVE kernel_size: 1 stride: 3"), x.shape)(x)
    assert average[0, 0, 2].equal(torch.zeros(3)) and average[0, 0, :2, :2].equal(x[0, 0, ::3, ::3])
    (average,) = make(pooling("pool: AVE kernel_size: 1 stride: 2"), (1, 1, 4, 4))(torch.rand(1, 1, 4, 4))
    assert average[0, 0, 2].isnan().all()


def test_global_pooling_follows_the_map_and_the_batch(make):
    layer = make(pooling("pool: AVE global_pooling: true"), (1, 2, 3, 3))
    x = torch.rand(4, 2, 7, 5)
    torch.testing.assert_close(layer(x)[0], x.mean((2, 3), keepdim=True))


def test_an_empty_batch_stays_empty(make):
    assert make(pooling("kernel_size: 2"), (0, 3, 4, 4))(torch.zeros(0, 3, 4, 4))[0].shape == (0, 3, 3, 3)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("stride: 2", (1, 1, 4, 4), "kernel_size is missing"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", (1, 1, 4, 4), "either kernel_size, or both"),
        ("kernel_h: 2", (1, 1, 4, 4), "either kernel_size, or both"),
        ("kernel_size: 2 pad: 2", (1, 1, 4, 4), r"pad \[2, 2\] must be less than the kernel"),
        ("kernel_size: 2 stride: 0", (1, 1, 4, 4), "at least 1"),
        ("kernel_size: 9", (1, 1, 4, 4), r"kernel \[9, 9\] does not fit in the bottom \[1, 1, 4, 4\]"),
        ("kernel_size: 2", (1, 4), "needs a bottom of 4 axes"),
        ("global_pooling: true kernel_size: 2", (1, 1, 4, 4), "leave kernel_size out"),
        ("global_pooling: true stride: 2", (1, 1, 4, 4), "stride 1 and pad 0"),
        ("pool: STOCHASTIC kernel_size: 2", (1, 1, 4, 4), "STOCHASTIC is not supported"),
    ],
)
def test_bad_parameters(make, text, shape, message):
    with pytest.raises(ValueError, match=message):
        make(pooling(text), shape)


def test_only_the_maximum_has_a_second_top(make):
    with pytest.raises(ValueError, match="only MAX"):
        make(pooling("pool: AVE kernel_size: 2"), (1, 1, 4, 4), tops=2)


def spp(text):
    return f'type: "SPP" spp_param {{ {text} }}'


def test_spp_pools_into_a_pyramid_of_bins(make):
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    layer = make(spp("pyramid_height: 2"), x.shape)
    assert layer.top_shapes == [(1, 5)]
    assert layer(x)[0].tolist() == [[15, 5, 7, 13, 15]]
    assert make(spp("pyramid_height: 2 pool: AVE"), x.shape)(x)[0].tolist() == [[7.5, 2.5, 4.5, 10.5, 12.5]]


def test_spp_gives_as_many_values_for_every_size(make):
    layer = make(spp("pyramid_height: 3"), (2, 3, 9, 13))
    assert layer.top_shapes == [(2, 3 * 21)]
    assert layer(torch.randn(2, 3, 16, 12))[0].shape == (2, 63)


def test_spp_of_one_level_keeps_four_axes(make):
    layer = make(spp("pyramid_height: 1"), (2, 3, 5, 7))
    assert layer.top_shapes == [(2, 3, 1, 1)] and layer(torch.randn(2, 3, 5, 7))[0].shape == (2, 3, 1, 1)
    with pytest.raises(ValueError, match="needs a pyramid_height of at least 1"):
        make(spp(""), (2, 3, 5, 7))
    with pytest.raises(ValueError, match=r"pad \[1, 1\] must be less than the kernel \[1, 1\]"):
        make(spp("pyramid_height: 2"), (1, 1, 1, 1))
