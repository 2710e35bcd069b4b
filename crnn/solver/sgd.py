"""One update of all parameters in Caffe's order: clip, normalise, regularise, then the solver type's rule.

Caffe: SGDSolver::ApplyUpdate in src/caffe/solvers/sgd_solver.cpp, NesterovSolver in nesterov_solver.cpp.
The rules' arithmetic: crnn/ops/update_reference.py. Everything happens in place and in the blobs' dtype.
"""

import math
from collections.abc import Callable
from difflib import get_close_matches
from typing import Protocol

import torch
from torch import Tensor

from crnn.ops import update, update_reference
from crnn.ops.update_reference import RULES
from crnn.proto import pb
from crnn.solver.params import Group, Param


class Rule(Protocol):
    """What a solver type adds: the rule of its name in `RULES`, and that rule's numbers."""

    name: str
    histories: int
    numbers: tuple[float, ...]

    def correction(self, iteration: int) -> float:
        """What the learning rate is multiplied with; `iteration` counts from 0."""


_RULES: dict[str, Callable[[pb.SolverParameter], Rule]] = {}


def register(name: str):
    """Class decorator: makes `type: "<name>"` of a solver use this rule."""

    def add(rule):
        rule.name, rule.histories = name, RULES[name].histories
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
        update(*_arguments(group, rule, param, rate, iteration))


@torch.no_grad()
def moves(
    groups: list[Group], rule: Rule, param: pb.SolverParameter, rate: float, iteration: int
) -> list[tuple[Param, Tensor]]:
    """What `apply` will subtract from each blob: Caffe leaves that in its diff. Nothing is changed."""
    found = []
    for group in groups:
        steps = update_reference.moves(*_arguments(group, rule, param, rate, iteration))
        found += zip(group.params, steps, strict=True)
    return found


def _arguments(group: Group, rule: Rule, param: pb.SolverParameter, rate: float, iteration: int) -> tuple:
    """Of the update op."""
    return (
        group.blobs,
        group.grads(),
        group.history,
        rule.name,
        rule.numbers,
        rate * group.lr_mult * rule.correction(iteration),
        param.weight_decay * group.decay_mult,
        param.regularization_type,
        1 / param.iter_size,
    )


class Uncorrected:
    """A rule that takes the learning rate as it is."""

    def correction(self, iteration: int) -> float:
        return 1.0


@register("SGD")
class SGD(Uncorrected):
    """Momentum, with the rate inside the velocity, unlike torch.optim.SGD's."""

    def __init__(self, param: pb.SolverParameter):
        self.numbers = (param.momentum,)


@register("Nesterov")
class Nesterov(SGD):
    """Momentum that looks one step ahead."""
