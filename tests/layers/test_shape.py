"""Concat, Slice, Reshape, Flatten, Split."""

import pytest
import torch


@pytest.mark.parametrize(("text", "axis"), [("", 1), ("axis: 0", 0), ("axis: -1", 3), ("concat_dim: 2", 2)])
def test_concat_and_slice_undo_each_other(make, text, axis):
    a, b = torch.randn(2, 2, 3, 4, 5)
    concat = make(f'type: "Concat" concat_param {{ {text} }}', a.shape, b.shape)
    (y,) = concat(a, b)
    assert y.equal(torch.cat([a, b], axis)) and y.shape == concat.top_shapes[0]
    cut = make(f'type: "Slice" slice_param {{ {text.replace("concat", "slice")} }}', y.shape, tops=2)
    assert [top.equal(x) for top, x in zip(cut(y), (a, b), strict=True)] == [True, True]
    assert cut.top_shapes == [a.shape, b.shape]


def test_slice_at_points(make):
    x = torch.randn(2, 7, 3)
    layer = make('type: "Slice" slice_param { slice_point: [1, 4] }', x.shape, tops=3)
    assert layer.top_shapes == [(2, 1, 3), (2, 3, 3), (2, 3, 3)]
    assert torch.cat(layer(x), 1).equal(x)


@pytest.mark.parametrize(
    ("text", "shape", "want"),
    [
        ("shape { dim: 0 dim: -1 }", (2, 3, 4), (2, 12)),
        ("shape { dim: -1 }", (2, 3, 4), (24,)),
        ("shape { dim: 0 dim: 0 dim: 2 dim: 2 }", (2, 3, 4), (2, 3, 2, 2)),
        ("shape { dim: 4 dim: -1 } axis: 1", (2, 3, 4), (2, 4, 3)),
        ("shape { dim: -1 } axis: 0 num_axes: 2", (2, 3, 4), (6, 4)),
        ("shape { dim: 1 } axis: -1 num_axes: 0", (2, 3, 4), (2, 3, 4, 1)),
        ("shape {} axis: 1 num_axes: 1", (2, 1, 4), (2, 4)),
        ("shape { dim: 0 dim: -1 }", (0, 3, 4), (0, 12)),
    ],
)
def test_reshape(make, text, shape, want):
    layer, x = make(f'type: "Reshape" reshape_param {{ {text} }}', shape), torch.randn(shape)
    assert layer.top_shapes == [want]
    assert layer(x)[0].equal(x.reshape(want))


def test_reshape_follows_the_batch(make):
    layer = make('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', (2, 3, 4))
    assert layer(torch.zeros(5, 3, 4))[0].shape == (5, 12)


@pytest.mark.parametrize(
    ("text", "want"),
    [("", (2, 60)), ("axis: 0", (120,)), ("axis: 1 end_axis: 2", (2, 12, 5)), ("axis: -2", (2, 3, 20))],
)
def test_flatten(make, text, want):
    layer, x = make(f'type: "Flatten" flatten_param {{ {text} }}', (2, 3, 4, 5)), torch.randn(2, 3, 4, 5)
    assert layer.top_shapes == [want]
    assert layer(x)[0].equal(x.reshape(want))


def test_split_sums_the_gradients_of_its_tops(make):
    x = torch.randn(2, 3, requires_grad=True)
    layer = make('type: "Split"', x.shape, tops=3)
    assert layer.top_shapes == [x.shape] * 3
    sum(top.sum() for top in layer(x)).backward()
    assert x.grad.equal(torch.full((2, 3), 3.0))


@pytest.mark.parametrize(
    ("text", "shapes", "tops", "message"),
    [
        ('type: "Concat"', [(2, 3, 4), (2, 3, 5)], 1, "differ in more than axis 1"),
        ('type: "Concat"', [(2, 3, 4), (2, 3)], 1, "differ in more than axis 1"),
        ('type: "Concat" concat_param { axis: 1 concat_dim: 1 }', [(2, 3)], 1, "either axis or concat_dim"),
        ('type: "Concat" concat_param { axis: 4 }', [(2, 3)], 1, "axis 4 is outside of a bottom with 2 axes"),
        ('type: "Slice"', [(2, 5)], 2, r"2 tops do not divide axis 1 of the bottom \[2, 5\]"),
        (
            'type: "Slice" slice_param { slice_point: 5 }',
            [(2, 5)],
            2,
            "1 rising slice_points between 0 and 5",
        ),
        ('type: "Slice" slice_param { slice_point: 2 }', [(2, 5)], 3, "2 rising slice_points"),
        (
            'type: "Reshape" reshape_param { shape { dim: 5 } }',
            [(2, 3)],
            1,
            r"\[2, 3\] has 6 values, the new shape",
        ),
        ('type: "Reshape" reshape_param { shape { dim: 4 dim: -1 } }', [(2, 3)], 1, "cannot be inferred"),
        ('type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }', [(2, 3)], 1, "once -1"),
        (
            'type: "Reshape" reshape_param { shape { dim: 6 dim: 1 dim: 0 } }',
            [(2, 3)],
            1,
            "dim 2 copies axis 2",
        ),
        (
            'type: "Reshape" reshape_param { axis: 1 num_axes: 2 }',
            [(2, 3)],
            1,
            "do not fit a bottom of 2 axes",
        ),
        (
            'type: "Flatten" flatten_param { axis: 2 end_axis: 1 }',
            [(2, 3, 4)],
            1,
            "end_axis 1 lies before axis 2",
        ),
    ],
)
def test_bad_parameters(make, text, shapes, tops, message):
    with pytest.raises(ValueError, match=message):
        make(text, *shapes, tops=tops)
