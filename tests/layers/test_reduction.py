"""Reduction and ArgMax."""

import pytest
import torch

X = torch.tensor([[1.0, -2, 3], [0, 4, -6]])


@pytest.mark.parametrize(
    ("operation", "sums", "slopes"),
    [
        ("SUM", [2, -2], [[1, 1, 1], [1, 1, 1]]),
        ("ASUM", [6, 10], [[1, -1, 1], [0, 1, -1]]),
        ("SUMSQ", [14, 52], [[2, -4, 6], [0, 8, -12]]),
        ("MEAN", [2 / 3, -2 / 3], [[1 / 3] * 3] * 2),
    ],
)
def test_reduction_of_the_last_axis(make, operation, sums, slopes):
    layer = make(f'type: "Reduction" reduction_param {{ operation: {operation} axis: -1 coeff: 2 }}', X.shape)
    x = X.clone().requires_grad_()
    (y,) = layer(x)
    y.sum().backward()
    torch.testing.assert_close(y, 2 * torch.tensor(sums, dtype=torch.float32))
    torch.testing.assert_close(x.grad, 2 * torch.tensor(slopes, dtype=torch.float32))


def test_reduction_of_everything_is_a_scalar(make):
    layer = make('type: "Reduction"', X.shape)
    assert layer.top_shapes == [()] and layer(X)[0] == 0


def argmax(text):
    return f'type: "ArgMax" argmax_param {{ {text} }}'


def test_of_equal_values_the_last_comes_first(make):
    x = torch.tensor([[2.0, 5, 5, 1]])
    layer = make(argmax("top_k: 3 out_max_val: true"), x.shape)
    assert layer.top_shapes == [(1, 2, 3)]
    assert layer(x)[0].tolist() == [[[2, 1, 0], [5, 5, 2]]]


def test_argmax_over_all_of_a_sample_keeps_the_number_of_axes(make):
    x = torch.arange(24.0).reshape(2, 3, 2, 2)
    layer = make(argmax(""), x.shape)
    assert layer.top_shapes == [(2, 1, 1, 1)]
    assert layer(x)[0].flatten().tolist() == [11, 11]


def test_argmax_along_an_axis_gives_indices_or_values(make):
    x = torch.tensor([[[1.0, 9], [7, 2], [3, 4]]])
    assert make(argmax("axis: 1 top_k: 2"), x.shape)(x)[0].tolist() == [[[1, 0], [2, 2]]]
    assert make(argmax("axis: -2 out_max_val: true"), x.shape)(x)[0].tolist() == [[[7, 9]]]


def test_argmax_has_no_gradient(make):
    x = torch.zeros(1, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"layer 'it' \(ArgMax\) has no gradient"):
        make(argmax(""), x.shape)(x)[0].sum().backward()


@pytest.mark.parametrize(("text", "choices"), [("top_k: 7", 6), ("top_k: 0", 6), ("axis: 1 top_k: 3", 2)])
def test_top_k_is_within_the_choices(make, text, choices):
    with pytest.raises(ValueError, match=f"is not within 1 and the {choices} values"):
        make(argmax(text), (4, 2, 3))


def test_argmax_of_a_vector_is_of_each_of_its_values(make):
    (y,) = make('type: "ArgMax" argmax_param { out_max_val: true }', (3,))(torch.tensor([4.0, 5.0, 6.0]))
    assert y.shape == (3, 2, 1) and y.flatten().tolist() == [0, 4, 0, 5, 0, 6]
