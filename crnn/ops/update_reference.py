"""Caffe's update rules in plain torch: the definition that every backend is tested against.

src/caffe/solvers/*_solver.cpp. A rule moves lists of tensors in place; `rate` is the learning rate of the
list, g the gradients with weight decay in them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Rule(NamedTuple):
    """One row of RULES. step(blobs, g, history, rate, *numbers); history[j] holds the j-th of each blob."""

    step: Callable
    histories: int
    numbers: tuple[str, ...]


def sgd(blobs, g, history, rate, momentum):
    """v <- momentum v + rate g; W <- W - v. The rate is inside the velocity, unlike torch.optim.SGD's."""
    (velocity,) = history
    torch._foreach_mul_(velocity, momentum)
    torch._foreach_add_(velocity, g, alpha=rate)
    torch._foreach_sub_(blobs, velocity)


def nesterov(blobs, g, history, rate, momentum):
    """v' = momentum v + rate g; W <- W - ((1 + momentum) v' - momentum v)."""
    (velocity,) = history
    step = torch._foreach_mul(velocity, -momentum)
    torch._foreach_mul_(velocity, momentum)
    torch._foreach_add_(velocity, g, alpha=rate)
    torch._foreach_add_(step, velocity, alpha=1 + momentum)
    torch._foreach_sub_(blobs, step)


def adagrad(blobs, g, history, rate, delta):
    """h <- h + g^2; W <- W - rate g / (sqrt(h) + delta)."""
    _accumulate(history[0], g, 1, 1)
    _subtract_scaled(blobs, g, history[0], delta, rate)


def rmsprop(blobs, g, history, rate, keep, delta):
    """h <- keep h + (1 - keep) g^2; W <- W - rate g / (sqrt(h) + delta)."""
    _accumulate(history[0], g, keep, 1 - keep)
    _subtract_scaled(blobs, g, history[0], delta, rate)


def adadelta(blobs, g, history, rate, keep, delta):
    """h1 <- keep h1 + (1 - keep) g^2; d = g sqrt((h2 + delta) / (h1 + delta));
    h2 <- keep h2 + (1 - keep) d^2; W <- W - rate d."""
    squares, steps = history
    _accumulate(squares, g, keep, 1 - keep)
    change = torch._foreach_add(steps, delta)
    torch._foreach_div_(change, torch._foreach_add(squares, delta))
    torch._foreach_sqrt_(change)
    torch._foreach_mul_(change, g)
    _accumulate(steps, change, keep, 1 - keep)
    torch._foreach_add_(blobs, change, alpha=-rate)


def adam(blobs, g, history, rate, beta1, beta2, delta):
    """m, v: running means of g and g^2; W <- W - rate m / (sqrt(v) + delta).

    The rate has the bias correction in it. Delta is outside that, where torch.optim.Adam has it inside.
    """
    means, squares = history
    torch._foreach_mul_(means, beta1)
    torch._foreach_add_(means, g, alpha=1 - beta1)
    _accumulate(squares, g, beta2, 1 - beta2)
    _subtract_scaled(blobs, means, squares, delta, rate)


def _accumulate(squares, g, keep: float, add: float):
    """squares <- keep squares + add g^2."""
    if keep != 1:
        torch._foreach_mul_(squares, keep)
    torch._foreach_addcmul_(squares, g, g, add)


def _subtract_scaled(blobs, numerators, squares, delta: float, rate: float):
    """W <- W - rate n / (sqrt(squares) + delta)."""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    torch._foreach_addcdiv_(blobs, numerators, roots, -rate)


#: The rules by `type` of Caffe's solver, in the order of `Rules` in csrc/core/updates.h.
RULES = {
    "SGD": Rule(sgd, 1, ("momentum",)),
    "Nesterov": Rule(nesterov, 1, ("momentum",)),
    "AdaGrad": Rule(adagrad, 1, ("delta",)),
    "RMSProp": Rule(rmsprop, 1, ("keep", "delta")),
    "AdaDelta": Rule(adadelta, 2, ("keep", "delta")),
    "Adam": Rule(adam, 2, ("beta1", "beta2", "delta")),
}


def update(
    blobs: list[Tensor],
    grads: list[Tensor],
    history: Sequence[list[Tensor]],
    rule: str,
    numbers: Sequence[float],
    rate: float,
    decay: float,
    regularization: str,
    scale: float,
) -> None:
    """Arguments as `crnn.ops.update`."""
    g = regularised(blobs, grads, decay, regularization, scale)
    RULES[rule].step(blobs, g, history, rate, *numbers)


def regularised(blobs, grads, decay: float, regularization: str, scale: float) -> list[Tensor]:
    """g of the rules: scale grad + decay W, or + decay sign(W)."""
    g = grads if scale == 1 else torch._foreach_mul(grads, scale)
    if not decay:
        return g
    return torch._foreach_add(g, torch._foreach_sign(blobs) if regularization == "L1" else blobs, alpha=decay)


def moves(
    blobs: list[Tensor],
    grads: list[Tensor],
    history: Sequence[list[Tensor]],
    rule: str,
    numbers: Sequence[float],
    rate: float,
    decay: float,
    regularization: str,
    scale: float,
) -> list[Tensor]:
    """What `update` would subtract from each blob; nothing is changed. Arguments as `crnn.ops.update`."""
    g = regularised(blobs, grads, decay, regularization, scale)
    moved, copies = (
        [torch.zeros_like(blob) for blob in blobs],
        [[h.clone() for h in each] for each in history],
    )
    RULES[rule].step(moved, g, copies, rate, *numbers)
    return torch._foreach_neg(moved)
