"""The gate: nothing is timed before its output and every gradient are right on the inputs it is timed on.

The truth is the unrolled loop in float64 (tests/benchmarks hold it to `crnn.ops.reference`, the definition)
on the same inputs, already rounded to the dtype. The yardstick is the same loop in the dtype itself, plain
torch: a contestant may be at most `FACTOR` times as far from the truth.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crnn.ops import transposed_reference
from crnn.ops.spatial import combined, spatial_input
from crnn.testing import LrnCase, ScanCase, relative_error

from . import cases
from .cases import EPS
from .loops import unrolled

FACTOR = 3.0
#: The yardstick itself must be sane: states of relu change sides where rounding moves them over zero, so the
#: error of a gradient goes with the root of eps.
SANE = 4.0


class Contestant(NamedTuple):
    """A function of its leaves, and the name of the input that each leaf's gradient is of.

    gradients: turns the leaves' gradients into those of the inputs, where a leaf is not an input itself.
    """

    function: Callable
    leaves: list[Tensor]
    gradients: Callable[[Sequence[Tensor]], dict[str, Tensor]]

    def forward(self) -> Tensor:
        return self.function(*self.leaves)

    def forward_backward(self, gradient: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        out = self.forward()
        return out, torch.autograd.grad(out, self.leaves, gradient, materialize_grads=True)

    def results(self, gradient: Tensor) -> dict[str, Tensor]:
        """The output and the gradient of every input."""
        out, grads = self.forward_backward(gradient)
        return {"out": out.detach(), **{f"d{name}": g for name, g in self.gradients(grads).items()}}


class Problem:
    """A case with its inputs, the gradient of its output, the truth and the yardstick's errors.

    inputs: name -> tensor; truth: "out" and "d<name>" -> float64 tensor; naive: "out" and "d<name>" -> error.
    """

    def __init__(self, case: cases.Case, op: str, dtype: str, device: str):
        self.case, self.op, self.dtype, self.device = case, op, dtype, device
        self.inputs, self.gradient = cases.inputs(case, op, dtype, device)
        plain = plain_torch(case, op, device)
        exact = {name: t.detach().double().requires_grad_() for name, t in self.inputs.items()}
        self.truth = of_inputs(plain, exact).results(self.gradient.double())
        self.naive = self.errors(of_inputs(plain, self.inputs))

    def contestant(self, made: Callable | Contestant) -> Contestant:
        return made if isinstance(made, Contestant) else of_inputs(made, self.inputs)

    def errors(self, contestant: Contestant) -> dict[str, float]:
        got = contestant.results(self.gradient)
        return {name: relative_error(got[name], want) for name, want in self.truth.items()}

    def refusal(self, errors: dict[str, float]) -> str:
        return refusal(errors, self.naive, EPS[self.dtype])


def of_inputs(function: Callable, inputs: dict[str, Tensor]) -> Contestant:
    """The contestant whose leaves are the inputs in their order."""
    return Contestant(function, list(inputs.values()), lambda grads: dict(zip(inputs, grads, strict=True)))


def plain_torch(case: cases.Case, op: str, device: str) -> Callable:
    """The op as a function of its inputs in plain torch: the truth in float64, else the yardstick."""
    if op == "lrn":
        return partial(plain_lrn, case)
    if op == "inner_product":
        return F.linear
    if op == "transposed":
        return transposed_reference.transposed
    loop = unrolled(case.plan, case.cell, device)
    return loop if op == "scan" else partial(plain_spatial, loop, case)


def plain_lrn(case: LrnCase, x: Tensor) -> Tensor:
    """What nn.LocalResponseNorm computes; on the CPU, where torch averages no half types, in float32."""
    wide = x.float() if x.device.type == "cpu" and x.dtype.itemsize == 2 else x
    return F.local_response_norm(wide, case.size, case.alpha, case.beta, case.k).to(x.dtype)


def plain_spatial(loop: Callable, case: ScanCase, x, w_ih, bias, w_hh, gain=None) -> Tensor:
    """`spatial_rnn` with the sum, around any scan of the loop's signature."""
    z, params = spatial_input(x, w_ih, bias, w_hh, gain)
    return combined(loop(z, w_hh, params), "sum", case.H, case.W)


def refusal(errors: dict[str, float], naive: dict[str, float], eps: float) -> str:
    """Why these errors are too large beside plain torch's; "" if they are not. NaN is refused."""
    for name, error in errors.items():
        if not naive[name] <= SANE * eps**0.5:
            return f"plain torch's own {name} is off by {naive[name]:.1e}: nothing to measure against"
        if not error <= FACTOR * max(naive[name], eps):
            return f"wrong: {name} is off by {error:.1e}, plain torch's by {naive[name]:.1e}"
    return ""
