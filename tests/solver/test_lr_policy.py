"""CAFFE.md 1.6: the learning rate policies."""

import math

import pytest

from crnn.proto import pb
from crnn.solver import lr_policy


def rates(iterations, **fields):
    """The rates of successive iterations, current_step handed on as the solver does."""
    param, step, found = pb.SolverParameter(base_lr=0.5, **fields), 0, []
    for iteration in range(iterations):
        value, step = lr_policy.rate(param, iteration, step)
        found.append(value)
    return found, step


def test_fixed():
    assert rates(3, lr_policy="fixed")[0] == [0.5, 0.5, 0.5]


def test_step_drops_each_stepsize_and_keeps_its_step_for_the_solverstate():
    assert rates(5, lr_policy="step", gamma=0.5, stepsize=2) == ([0.5, 0.5, 0.25, 0.25, 0.125], 2)


def test_exp():
    assert rates(3, lr_policy="exp", gamma=0.5)[0] == [0.5, 0.25, 0.125]


def test_inv():
    assert rates(2, lr_policy="inv", gamma=1, power=2)[0] == [0.5, 0.125]


def test_poly_reaches_zero_at_max_iter():
    assert rates(5, lr_policy="poly", power=1, max_iter=4)[0] == [0.5, 0.375, 0.25, 0.125, 0]


def test_restart_falls_by_equal_factors_and_starts_again():
    found, _ = rates(7, lr_policy="restart", restart_period=3, restart_floor=0.125)
    assert found == pytest.approx([0.5, 0.25, 0.125] * 2 + [0.5], rel=1e-12)


def test_a_restart_in_each_iteration_never_falls():
    assert rates(3, lr_policy="restart", restart_period=1, restart_floor=0.1)[0] == [0.5, 0.5, 0.5]


def test_sigmoid_is_half_at_stepsize():
    found, _ = rates(5, lr_policy="sigmoid", gamma=-2, stepsize=2)
    assert found[2] == 0.25
    assert found[4] == pytest.approx(0.5 / (1 + math.exp(4)))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"lr_policy": "sigmoid", "gamma": 0.1, "stepsize": 10000}, 0.0),
        ({"lr_policy": "sigmoid", "gamma": -1, "stepsize": -2000}, 0.0),
        ({"lr_policy": "restart", "base_lr": 0, "restart_period": 9, "restart_floor": 1}, 0.0),
        ({"lr_policy": "inv", "gamma": -1, "power": 1}, math.inf),
        ({"lr_policy": "exp", "gamma": 1e300}, math.inf),
        ({"lr_policy": "poly", "max_iter": 1, "power": 0.5}, math.nan),
    ],
)
def test_rates_beyond_a_doubles_range_are_as_in_c(fields, wanted):
    """Python raises where C has an infinity, or a nan where Python's power is complex."""
    iteration = {"inv": 1, "exp": 2, "poly": 2}.get(fields["lr_policy"], 0)
    value, _ = lr_policy.rate(pb.SolverParameter(**{"base_lr": 0.5, **fields}), iteration, 0)
    assert value == pytest.approx(wanted, nan_ok=True)


def test_multistep_drops_at_each_stepvalue():
    found, step = rates(6, lr_policy="multistep", gamma=0.5, stepvalue=[2, 4])
    assert found == [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert step == 2


def test_multistep_rises_by_one_a_call_even_past_several_stepvalues():
    param = pb.SolverParameter(base_lr=1, lr_policy="multistep", gamma=0.5, stepvalue=[2, 4])
    assert lr_policy.rate(param, 100, 0) == (0.5, 1)
    assert lr_policy.rate(param, 101, 1) == (0.25, 2)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"lr_policy": "multstep"}, "unknown lr_policy 'multstep'; did you mean 'multistep'?"),
        ({}, "unknown lr_policy ''; known: fixed, step, exp, inv, multistep, poly, restart, sigmoid"),
        ({"lr_policy": "step"}, "lr_policy 'step' needs stepsize > 0, got 0"),
        ({"lr_policy": "restart", "restart_period": 9}, "lr_policy 'restart' needs restart_floor > 0, got 0"),
        ({"lr_policy": "poly"}, "lr_policy 'poly' needs max_iter > 0, got 0"),
    ],
)
def test_what_cannot_work_is_refused(fields, message):
    with pytest.raises(ValueError, match="^" + message.replace("?", r"\?")):
        lr_policy.check(pb.SolverParameter(**fields))
