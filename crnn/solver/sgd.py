"""One update of all parameters in Caffe's order: clip, normalise, regularise, then the solver type's rule.

Caffe: SGDSolver::ApplyUpdate in src/caffe/solvers/sgd_solver.cpp, NesterovSolver in nesterov_solver.cpp.
Everything happens in place and in the blobs' dtype.
"""

import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import Protocol

import torch
from torch import Tensor

from crnn.proto import pb
from crnn.solver.params import Group, Param


class Rule(Protocol):
    """What a solver type adds: `histories` tensors a blob, and how they turn a gradient into an update."""

    histories: int

    def update(self, group: Group, grads: list[Tensor], rate: float, iteration: int) -> None:
        """Moves group.blobs and group.history; `rate` is lr * lr_mult, `iteration` counts from 0."""


_RULES: dict[str, Callable[[pb.SolverParameter], Rule]] = {}


def register(name: str):
    """Class decorator: makes `type: "<name>"` of a solver use this rule."""

    def add(rule):
        _RULES[name] = rule
        return rule

    return add


def build(param: pb.SolverParameter) -> Rule:
    """The rule of param.type; ValueError where it is unknown or refuses a field of the solver."""
    if param.type not in _RULES:
        by_lower = {name.lower(): name for name in _RULES}
        near = get_close_matches(param.type.lower(), by_lower, 1)
        hint = f"did you mean {by_lower[near[0]]!r}?" if near else f"known: {', '.join(_RULES)}"
        raise ValueError(f"unknown solver type {param.type!r}; {hint}")
    if param.regularization_type not in ("L1", "L2"):
        raise ValueError(f"unknown regularization_type {param.regularization_type!r}; known: L1, L2")
    return _RULES[param.type](param)


@torch.no_grad()
def clip(params: list[Param], limit: float) -> tuple[float, float] | None:
    """Scales all diffs so that their joint L2 norm is at most `limit`.

    Caffe clips the sum over iter_size passes, before it is averaged and before weight decay.
    Returns (norm, scale factor) if it had to, else None.
    """
    grads = [p.grad for p in params if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))) if grads else 0.0
    if norm <= limit or math.isnan(norm):
        return None
    torch._foreach_mul_(grads, limit / norm)
    return norm, limit / norm


@torch.no_grad()
def apply(groups: list[Group], rule: Rule, param: pb.SolverParameter, rate: float, iteration: int) -> None:
    """Normalises, regularises and applies the accumulated diffs of all groups."""
    for group in groups:
        grads = group.grads()
        if param.iter_size > 1:
            torch._foreach_mul_(grads, 1 / param.iter_size)
        decay = param.weight_decay * group.decay_mult
        if decay:
            blobs = torch._foreach_sign(group.blobs) if param.regularization_type == "L1" else group.blobs
            torch._foreach_add_(grads, blobs, alpha=decay)
        rule.update(group, grads, rate * group.lr_mult, iteration)


@register("SGD")
class SGD:
    """v <- momentum v + rate g; W <- W - v. The rate is inside the velocity, unlike torch.optim.SGD's."""

    histories = 1

    def __init__(self, param: pb.SolverParameter):
        self.momentum = param.momentum

    def update(self, group, grads, rate, iteration):
        velocity = group.history[0]
        torch._foreach_mul_(velocity, self.momentum)
        torch._foreach_add_(velocity, grads, alpha=rate)
        torch._foreach_sub_(group.blobs, velocity)


@register("Nesterov")
class Nesterov(SGD):
    """v' = momentum v + rate g; W <- W - ((1 + momentum) v' - momentum v)."""

    def update(self, group, grads, rate, iteration):
        velocity = group.history[0]
        step = torch._foreach_mul(velocity, -self.momentum)
        torch._foreach_mul_(velocity, self.momentum)
        torch._foreach_add_(velocity, grads, alpha=rate)
        torch._foreach_add_(step, velocity, alpha=1 + self.momentum)
        torch._foreach_sub_(group.blobs, step)
