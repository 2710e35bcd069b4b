"""AdaGrad, RMSProp, AdaDelta and Adam by Caffe's rules (src/caffe/solvers/*_solver.cpp).

In all of them weight decay is already part of the gradient g (sgd.py), and `delta` stands where Caffe has it.
"""

import torch

from crnn.proto import pb
from crnn.solver.sgd import register


def _accumulate(squares, grads, keep: float, add: float):
    """squares <- keep squares + add g^2."""
    if keep != 1:
        torch._foreach_mul_(squares, keep)
    torch._foreach_addcmul_(squares, grads, grads, add)


def _subtract_scaled(blobs, numerators, squares, delta: float, rate: float):
    """W <- W - rate n / (sqrt(squares) + delta)."""
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, delta)
    torch._foreach_addcdiv_(blobs, numerators, roots, -rate)


@register("AdaGrad")
class AdaGrad:
    """h <- h + g^2; W <- W - rate g / (sqrt(h) + delta)."""

    histories = 1

    def __init__(self, param: pb.SolverParameter):
        if param.momentum:
            raise ValueError(f"solver type 'AdaGrad' cannot use momentum, got {param.momentum:g}; remove it")
        self.delta = param.delta

    def update(self, group, grads, rate, iteration):
        _accumulate(group.history[0], grads, 1, 1)
        _subtract_scaled(group.blobs, grads, group.history[0], self.delta, rate)


@register("RMSProp")
class RMSProp:
    """h <- rms_decay h + (1 - rms_decay) g^2; W <- W - rate g / (sqrt(h) + delta)."""

    histories = 1

    def __init__(self, param: pb.SolverParameter):
        if param.momentum:
            raise ValueError(f"solver type 'RMSProp' cannot use momentum, got {param.momentum:g}; remove it")
        if not 0 <= param.rms_decay < 1:
            raise ValueError(f"solver type 'RMSProp' needs 0 <= rms_decay < 1, got {param.rms_decay:g}")
        self.decay, self.delta = param.rms_decay, param.delta

    def update(self, group, grads, rate, iteration):
        _accumulate(group.history[0], grads, self.decay, 1 - self.decay)
        _subtract_scaled(group.blobs, grads, group.history[0], self.delta, rate)


@register("AdaDelta")
class AdaDelta:
    """h1 <- m h1 + (1-m) g^2; d = g sqrt((h2 + delta) / (h1 + delta)); h2 <- m h2 + (1-m) d^2;
    W <- W - rate d.

    m is `momentum`; history[0] is h1, history[1] is h2.
    """

    histories = 2

    def __init__(self, param: pb.SolverParameter):
        self.momentum, self.delta = param.momentum, param.delta

    def update(self, group, grads, rate, iteration):
        squares, steps = group.history
        _accumulate(squares, grads, self.momentum, 1 - self.momentum)
        change = torch._foreach_add(steps, self.delta)
        torch._foreach_div_(change, torch._foreach_add(squares, self.delta))
        torch._foreach_sqrt_(change)
        torch._foreach_mul_(change, grads)
        _accumulate(steps, change, self.momentum, 1 - self.momentum)
        torch._foreach_add_(group.blobs, change, alpha=-rate)


@register("Adam")
class Adam:
    """m, v: running means of g and g^2; W <- W - rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + delta).

    b1 is `momentum` (0 if not given), b2 `momentum2`, t the iteration from 1. Delta is outside the bias
    correction, where torch.optim.Adam has it inside.
    """

    histories = 2

    def __init__(self, param: pb.SolverParameter):
        self.beta1, self.beta2, self.delta = param.momentum, param.momentum2, param.delta

    def update(self, group, grads, rate, iteration):
        means, squares = group.history
        torch._foreach_mul_(means, self.beta1)
        torch._foreach_add_(means, grads, alpha=1 - self.beta1)
        _accumulate(squares, grads, self.beta2, 1 - self.beta2)
        t = iteration + 1
        correction = (1 - self.beta2**t) ** 0.5 / (1 - self.beta1**t)
        _subtract_scaled(group.blobs, means, squares, self.delta, rate * correction)
