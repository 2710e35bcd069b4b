"""Learning rate policies: the rate as a pure function of the solver's text, the iteration and current_step.

Caffe: SGDSolver::GetLearningRate in src/caffe/solvers/sgd_solver.cpp.
"""

import math
from collections.abc import Callable
from difflib import get_close_matches

from crnn.proto import pb

Policy = Callable[[pb.SolverParameter, int, int], tuple[float, int]]

_POLICIES: dict[str, tuple[Policy, tuple[str, ...]]] = {}


def register(name: str, *positive: str):
    """Decorator: makes `lr_policy: "<name>"` use this function; the fields in `positive` must be > 0."""

    def add(policy: Policy) -> Policy:
        _POLICIES[name] = policy, positive
        return policy

    return add


def rate(param: pb.SolverParameter, iteration: int, current_step: int) -> tuple[float, int]:
    """The rate of update `iteration` (from 0), and the current_step that the solverstate keeps."""
    try:
        value, current_step = _POLICIES[param.lr_policy][0](param, iteration, current_step)
    except (OverflowError, ZeroDivisionError):  # where C has an infinity
        return math.inf, current_step
    return math.nan if isinstance(value, complex) else value, current_step


def check(param: pb.SolverParameter) -> None:
    """Raises ValueError for an unknown policy or one that lacks a field it divides by."""
    if param.lr_policy not in _POLICIES:
        near = get_close_matches(param.lr_policy, _POLICIES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(_POLICIES)}"
        raise ValueError(f"unknown lr_policy {param.lr_policy!r}; {hint}")
    for field in _POLICIES[param.lr_policy][1]:
        if getattr(param, field) <= 0:
            raise ValueError(f"lr_policy {param.lr_policy!r} needs {field} > 0, got {getattr(param, field)}")


@register("fixed")
def fixed(param, iteration, current_step):
    return param.base_lr, current_step


@register("step", "stepsize")
def step(param, iteration, current_step):
    current_step = iteration // param.stepsize
    return param.base_lr * param.gamma**current_step, current_step


@register("exp")
def exp(param, iteration, current_step):
    return param.base_lr * param.gamma**iteration, current_step


@register("inv")
def inv(param, iteration, current_step):
    return param.base_lr * (1 + param.gamma * iteration) ** -param.power, current_step


@register("multistep")
def multistep(param, iteration, current_step):
    """As in Caffe, one call raises the step by one at most, whatever the stepvalues."""
    if current_step < len(param.stepvalue) and iteration >= param.stepvalue[current_step]:
        current_step += 1
    return param.base_lr * param.gamma**current_step, current_step


@register("poly", "max_iter")
def poly(param, iteration, current_step):
    return param.base_lr * (1 - iteration / param.max_iter) ** param.power, current_step


@register("restart", "restart_period", "restart_floor")
def restart(param, iteration, current_step):
    """From base_lr by equal factors to restart_floor, the last rate of each restart_period (Xie 2016,
    appendix A.2, which leaves the shape of the fall open)."""
    period = param.restart_period
    fall = (param.restart_floor / param.base_lr) ** (1 / max(period - 1, 1)) if param.base_lr else 0
    return param.base_lr * fall ** (iteration % period), current_step


@register("sigmoid")
def sigmoid(param, iteration, current_step):
    fall = -param.gamma * (iteration - param.stepsize)
    return (param.base_lr / (1 + math.exp(fall)) if fall < 700 else 0.0), current_step
