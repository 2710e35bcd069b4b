"""Exp, Log, Power of shift + scale · x. Caffe: src/caffe/layers/{exp,log,power}_layer.cpp."""

import math

import torch

from .activation import Activation
from .base import register


def log_of_base(base: float) -> float:
    """log(base); the base −1 stands for e. Raises ValueError where there is no logarithm."""
    if base == -1:
        return 1.0
    if base <= 0:
        raise ValueError(f"base must be positive, or -1 for e; got {base:g}")
    return math.log(base)


@register("Exp")
class Exp(Activation):
    """base ^ (shift + scale · x); the default base −1 stands for e.

    bottom[0], top[0]: any shape, the same.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.exp_param
        log_base = log_of_base(p.base)
        self.inner = log_base * p.scale
        try:
            self.outer = math.exp(log_base * p.shift)
        except OverflowError:
            self.outer = math.inf

    def forward(self, x):
        return (torch.exp(self.inner * x) * self.outer,)


@register("Log")
class Log(Activation):
    """log(shift + scale · x) to the base `base`; the default −1 stands for e.

    bottom[0], top[0]: any shape, the same.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.log_param
        if p.base == 1:
            raise ValueError("base must not be 1: its logarithm is 0")
        self.scale, self.shift, self.factor = p.scale, p.shift, 1 / log_of_base(p.base)

    def forward(self, x):
        return (torch.log(self.scale * x + self.shift) * self.factor,)


@register("Power")
class Power(Activation):
    """(shift + scale · x) ^ power.    bottom[0], top[0]: any shape, the same.

    With power or scale 0 the top is constant and takes no gradient, whatever x is.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.power_param
        self.power, self.scale, self.shift = p.power, p.scale, p.shift

    def forward(self, x):
        if self.power == 0 or self.scale == 0:
            return (torch.full_like(x, self.shift).pow(self.power),)
        y = self.scale * x + self.shift
        return (y if self.power == 1 else y.pow(self.power),)
