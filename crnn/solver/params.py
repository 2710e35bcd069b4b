"""What the solver knows of each learnable blob, and the groups that are updated together."""

from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor, nn


@dataclass
class Param:
    """One learnable blob (shared blobs once) with its multipliers and the update rule's memory."""

    name: str  # "conv1[0]"
    blob: nn.Parameter
    lr_mult: float
    decay_mult: float
    history: list[Tensor] = field(default_factory=list)

    @property
    def grad(self) -> Tensor | None:
        """The accumulated diff; None where Caffe's stays zero: no loss reaches the blob, or lr_mult is 0."""
        return self.blob.grad if self.lr_mult else None


def collect(net, histories: int, legacy_shared_decay: bool = False) -> list[Param]:
    """The net's learnable blobs in Caffe's order, each with `histories` zero tensors of its shape.

    legacy_shared_decay: a shared blob decays once for each layer (and unrolled step) that uses it, as in
    Caffe before August 2015 (BVLC/caffe pull request 2866).
    """
    return [
        Param(
            name=f"{record.layer}[{record.index}]",
            blob=record.parameter,
            lr_mult=record.lr_mult,
            decay_mult=record.decay_mult * (record.uses if legacy_shared_decay else 1),
            history=[torch.zeros_like(record.parameter, requires_grad=False) for _ in range(histories)],
        )
        for record in net.params
    ]


@dataclass
class Group:
    """Params of equal multipliers: their tensors as lists, for torch's foreach operations."""

    lr_mult: float
    decay_mult: float
    params: list[Param]

    def __post_init__(self):
        self.blobs = [p.blob for p in self.params]
        self.history = [list(h) for h in zip(*(p.history for p in self.params), strict=True)]

    def grads(self) -> list[Tensor]:
        """The diffs, zeros where there is none: weight decay and momentum act on those blobs too."""
        return [torch.zeros_like(p.blob) if p.grad is None else p.grad for p in self.params]


def group(params: list[Param]) -> list[Group]:
    """Splits by (lr_mult, decay_mult)."""

    def multipliers(param):
        return param.lr_mult, param.decay_mult

    return [Group(*key, list(g)) for key, g in groupby(sorted(params, key=multipliers), multipliers)]
