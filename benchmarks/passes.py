"""The ops that are one pass over memory, lrn, inner_product, transposed and update, beside torch's own."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from crnn.ops import backends, inner_product, lrn, transposed, transposed_reference, update, update_reference
from crnn.testing import LrnCase, UpdateCase

from .cases import DTYPES
from .gate import Problem, plain_torch

#: How torch.optim.SGD goes over its parameters -> the contestant's name.
WAYS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def lrn_contestants(case: LrnCase, device: str, compiles: bool) -> dict[str, Callable]:
    """Functions of x; the peer is what nn.LocalResponseNorm calls."""
    plain = plain_torch(case, "lrn", device)
    found = {"crnn": partial(ours_lrn, case, device), "F.local_response_norm": lambda: plain}
    return found | ({"compiled": lambda: torch.compile(plain, fullgraph=True)} if compiles else {})


def ours_lrn(case: LrnCase, device: str) -> Callable:
    require(device)
    return lambda x: lrn(x, *case.numbers)


def inner_product_contestants(device: str) -> dict[str, Callable]:
    """Functions of x and weight."""

    def ours() -> Callable:
        require(device)
        return inner_product

    return {"crnn": ours, "F.linear": lambda: F.linear}


def transposed_contestants(device: str) -> dict[str, Callable]:
    """Functions of x."""

    def ours() -> Callable:
        require(device)
        return transposed

    return {"crnn": ours, "x.mT.contiguous": lambda: transposed_reference.transposed}


class Updater:
    """A contestant that moves the problem's blobs and history in place."""

    def __init__(self, problem: "UpdateProblem", step: Callable, scale: float = 1.0):
        self.problem, self.forward, self.scale = problem, step, scale

    def forward_backward(self, _) -> None:
        self.forward()

    def results(self, _) -> dict[str, Tensor]:
        """Blobs and history after one update from the start; scale: ours of a history that is this one's."""
        self.problem.restore(1 / self.scale)
        self.forward()
        p = self.problem
        return {"blobs": joined(p.blobs), "history": joined(p.history) * self.scale}


class UpdateProblem(Problem):
    """Caffe's SGD with momentum and weight decay, on all blobs of a net."""

    def __init__(self, case: UpdateCase, dtype: str, device: str):
        self.case, self.op, self.dtype, self.device, self.gradient = case, "update", dtype, device, None
        rng = torch.Generator(device).manual_seed(1)
        self.blobs, self.grads, self.history = (
            [(torch.randn(s, generator=rng, device=device) * 0.01).to(DTYPES[dtype]) for s in case.shapes]
            for _ in range(3)
        )
        self.start = [[t.clone() for t in ts] for ts in (self.blobs, self.history)]
        exact = [[t.double() for t in ts] for ts in (self.blobs, self.grads, self.history)]
        rule, numbers, rate, *rest = case.options
        update_reference.update(exact[0], exact[1], [exact[2]], rule, numbers, rate, *rest)
        self.truth = {"blobs": joined(exact[0]), "history": joined(exact[2])}
        self.naive = self.errors(torch_sgd(self, "loop"))

    def contestant(self, made: Updater) -> Updater:
        return made

    def restore(self, scale: float) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.blobs, self.start[0])
            torch._foreach_copy_(self.history, self.start[1])
            torch._foreach_mul_(self.history, scale)


def joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def ours_update(problem: UpdateProblem) -> Updater:
    require(problem.device)
    step = partial(update, problem.blobs, problem.grads, [problem.history], *problem.case.options)
    return Updater(problem, step)


def torch_sgd(problem: UpdateProblem, way: str) -> Updater:
    """torch.optim.SGD; its velocity is Caffe's over the rate, exactly so where the rate is a power of two."""
    case = problem.case
    for blob, grad in zip(problem.blobs, problem.grads, strict=True):
        blob.grad = grad
    (momentum,) = case.numbers
    options = {"lr": case.rate, "momentum": momentum, "weight_decay": case.decay, **WAYS[way]}
    optimizer = torch.optim.SGD(problem.blobs, **options)
    for blob, velocity in zip(problem.blobs, problem.history, strict=True):
        optimizer.state[blob]["momentum_buffer"] = velocity
    return Updater(problem, optimizer.step, case.rate)


def update_contestants(problem: UpdateProblem) -> dict[str, Callable]:
    found = {"crnn": partial(ours_update, problem)}
    return found | {f"SGD {way}": partial(torch_sgd, problem, way) for way in WAYS}


def require(device: str) -> None:
    if device not in backends():
        raise RuntimeError(f"crnn has no compiled ops for {device} here: see `crnn doctor`")
