"""Eltwise."""

import pytest
import torch


def eltwise(text):
    return f'type: "Eltwise" eltwise_param {{ {text} }}'


def test_sum_product_and_maximum_of_three(make):
    a, b, c = torch.randn(3, 2, 4)
    shapes = [a.shape] * 3
    assert make('type: "Eltwise"', *shapes)(a, b, c)[0].equal(a + b + c)
    torch.testing.assert_close(make(eltwise("coeff: [1, -2, 0.5]"), *shapes)(a, b, c)[0], a - 2 * b + c / 2)
    assert make(eltwise("operation: PROD"), *shapes)(a, b, c)[0].equal(a * b * c)
    assert make(eltwise("operation: MAX"), *shapes)(a, b, c)[0].equal(torch.maximum(torch.maximum(a, b), c))


def test_the_gradient_of_a_tie_goes_to_the_second_of_the_first_two(make):
    a, b, c = (torch.ones(1, requires_grad=True) for _ in range(3))
    make(eltwise("operation: MAX"), (1,), (1,), (1,))(a, b, c)[0].sum().backward()
    assert (a.grad, b.grad, c.grad) == (0, 1, 0)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("operation: PROD coeff: 1 coeff: 2", [(2,), (2,)], "coeff is for operation: SUM"),
        ("coeff: 1", [(2,), (2,)], "one coeff a bottom: 2, got 1"),
        ("", [(2,), (3,)], r"bottoms of one shape, got \[\[2\], \[3\]\]"),
        ("", [(2,)], "takes at least 2 bottoms, got 1"),
    ],
)
def test_bad_parameters(make, text, shapes, message):
    with pytest.raises(ValueError, match=message):
        make(eltwise(text), *shapes)
