"""Crop, Tile, Filter, BatchReindex, Silence."""

import pytest
import torch

from crnn.net.net import Net


def crop(text=""):
    return f'type: "Crop" crop_param {{ {text} }}'


X = torch.arange(2 * 3 * 5 * 4.0).reshape(2, 3, 5, 4)


@pytest.mark.parametrize(
    ("text", "like", "window"),
    [
        ("", (9, 9, 2, 3), X[:, :, :2, :3]),
        ("offset: 1", (2, 3, 3, 2), X[:, :, 1:4, 1:3]),
        ("axis: -1 offset: 2", (2, 3, 5, 2), X[..., 2:4]),
        ("axis: 1 offset: [1, 3, 0]", (2, 2, 2, 4), X[:, 1:3, 3:5]),
    ],
)
def test_crop_cuts_a_window_as_large_as_its_second_bottom(make, text, like, window):
    layer = make(crop(text), X.shape, like)
    assert layer.top_shapes == [window.shape]
    assert layer(X, torch.empty(like))[0].equal(window)


@pytest.mark.parametrize(
    ("text", "like", "message"),
    [
        ("offset: 3", (2, 3, 3, 2), r"\[3, 2\] at offset \[3, 3\] is not inside axes 2.. of \[2, 3, 5, 4\]"),
        ("", (2, 3, 6, 2), "is not inside"),
        ("", (2, 3), "is not inside"),
        ("offset: [1, 1, 1]", (2, 3, 3, 2), "once or for each of the 2 axes from 2 on, got 3 values"),
        ("axis: 4", (2, 3, 3, 2), "axis 4 is outside"),
    ],
)
def test_bad_crops(make, text, like, message):
    with pytest.raises(ValueError, match=message):
        make(crop(text), X.shape, like)


def test_tile_repeats_an_axis_and_sums_the_gradients(make):
    x = torch.tensor([[1.0, 2], [3, 4]], requires_grad=True)
    layer = make('type: "Tile" tile_param { axis: -1 tiles: 3 }', x.shape)
    (y,) = layer(x)
    assert layer.top_shapes == [(2, 6)] and y.tolist() == [[1, 2, 1, 2, 1, 2], [3, 4, 3, 4, 3, 4]]
    (y * torch.arange(6.0)).sum().backward()
    assert x.grad.tolist() == [[0 + 2 + 4, 1 + 3 + 5]] * 2
    with pytest.raises(ValueError, match="tiles must be at least 1"):
        make('type: "Tile"', (2, 2))


def test_filter_passes_the_selected_samples(make):
    x, label = torch.tensor([[1.0, 2], [3, 4], [5, 6]], requires_grad=True), torch.tensor([7.0, 8, 9])
    layer = make('type: "Filter"', x.shape, label.shape, (3, 1), tops=2)
    assert layer.top_shapes == [(3, 2), (3,)]
    y, labels = layer(x, label, torch.tensor([[1.0], [0], [-0.5]]))
    assert y.tolist() == [[1, 2], [5, 6]] and labels.tolist() == [7, 9]
    y.sum().backward()
    assert x.grad.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert layer(x, label, torch.zeros(3, 1))[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("shapes", "tops", "message"),
    [
        ([(3, 2), (3,)], 2, "needs 1 tops, one less than bottoms; got 2"),
        ([(3, 2), (3, 2)], 1, r"needs a selector \[N\]"),
        ([(4, 2), (3,)], 1, r"needs a selector \[N\]"),
    ],
)
def test_bad_filters(make, shapes, tops, message):
    with pytest.raises(ValueError, match=message):
        make('type: "Filter"', *shapes, tops=tops)


def test_batch_reindex_takes_samples_and_sums_their_gradients(make):
    x = torch.tensor([[1.0], [2], [3]], requires_grad=True)
    layer = make('type: "BatchReindex"', x.shape, (4,))
    (y,) = layer(x, torch.tensor([2.0, 0, 2, 2]))
    assert layer.top_shapes == [(4, 1)] and y.flatten().tolist() == [3, 1, 3, 3]
    (y.flatten() * torch.tensor([1.0, 10, 100, 1000])).sum().backward()
    assert x.grad.flatten().tolist() == [10, 0, 1101]
    with pytest.raises(ValueError, match="index 3 is not one of the 3 samples 0 to 2"):
        layer(x, torch.tensor([0.0, 3]))
    with pytest.raises(ValueError, match=r"needs bottoms \[N, ...\] and \[n\]"):
        make('type: "BatchReindex"', (3, 1), (2, 2))


def test_silence_reads_what_would_be_an_output():
    net = Net(
        """layer { name: "x" type: "Input" top: "a" top: "b" input_param { shape { dim: 1 } } }
        layer { name: "s" type: "Silence" bottom: "b" }"""
    )
    assert list(net(torch.ones(1), torch.ones(1))) == ["a"]
