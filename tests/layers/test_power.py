"""Exp, Log, Power."""

import math

import pytest
import torch

X = [0.5, 1.0, 2.0]


def function_and_slope(layer):
    x = torch.tensor(X, requires_grad=True)
    (y,) = layer(x)
    y.sum().backward()
    return y.tolist(), x.grad.tolist()


@pytest.mark.parametrize(
    ("text", "function", "slope"),
    [
        ('"Exp"', math.exp, math.exp),
        (
            '"Exp" exp_param { base: 2 scale: 3 shift: -1 }',
            lambda x: 2 ** (3 * x - 1),
            lambda x: 3 * math.log(2) * 2 ** (3 * x - 1),
        ),
        ('"Log"', math.log, lambda x: 1 / x),
        (
            '"Log" log_param { base: 10 scale: 4 shift: 1 }',
            lambda x: math.log10(4 * x + 1),
            lambda x: 4 / (4 * x + 1) / math.log(10),
        ),
        (
            '"Power" power_param { power: 3 scale: 2 shift: 1 }',
            lambda x: (2 * x + 1) ** 3,
            lambda x: 6 * (2 * x + 1) ** 2,
        ),
        ('"Power"', lambda x: x, lambda x: 1),
        ('"Power" power_param { scale: -2 shift: 1 }', lambda x: 1 - 2 * x, lambda x: -2),
    ],
)
def test_values_and_slopes(make, text, function, slope):
    y, dx = function_and_slope(make(f"type: {text}", (3,)))
    assert y == pytest.approx([function(x) for x in X], rel=2e-6)
    assert dx == pytest.approx([slope(x) for x in X], rel=2e-6)


@pytest.mark.parametrize(
    ("text", "value"), [("power: 0", 1), ("scale: 0 shift: 3 power: 2", 9), ("power: 0 scale: 0", 1)]
)
def test_a_constant_power_ignores_its_bottom(make, text, value):
    layer = make(f'type: "Power" power_param {{ {text} }}', (2,))
    assert layer(torch.tensor([math.nan, -1]))[0].tolist() == [value, value]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"Exp" exp_param { base: 0 }', "base must be positive, or -1 for e; got 0"),
        ('"Log" log_param { base: -2 }', "base must be positive, or -1 for e; got -2"),
        ('"Log" log_param { base: 1 }', "base must not be 1"),
    ],
)
def test_bases_without_a_logarithm(make, text, message):
    with pytest.raises(ValueError, match=message):
        make(f"type: {text}", (2,))


def test_exp_beyond_the_largest_number_is_infinite(make):
    (y,) = make('type: "Exp" exp_param { base: 10 shift: 400 }', (1,))(torch.zeros(1))
    assert y.item() == float("inf")
