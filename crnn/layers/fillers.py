"""Fillers: the initial values of blobs, by `FillerParameter.type`. Caffe: include/caffe/filler.hpp."""

import difflib
import math

import torch
from torch import Tensor

FILLERS = {}


def fill(blob: Tensor, param) -> Tensor:
    """Fills `blob` in place as `param` (a FillerParameter) says, with torch's random numbers; returns it."""
    if param.type not in FILLERS:
        near = difflib.get_close_matches(param.type, FILLERS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(FILLERS))}"
        raise ValueError(f"unknown filler type {param.type!r}; {hint}")
    if param.sparse >= 0 and param.type != "gaussian":
        raise ValueError(f"sparse is for filler 'gaussian', not {param.type!r}")
    with torch.no_grad():
        if blob.numel():
            FILLERS[param.type](blob, param)
    return blob


def _filler(function):
    FILLERS[function.__name__] = function
    return function


def _outputs(blob: Tensor, param) -> int:
    if not blob.dim():
        raise ValueError(f"filler {param.type!r} needs a blob of at least one axis")
    return blob.shape[0]


def _fan(blob: Tensor, param) -> float:
    """The n of xavier and msra: FAN_IN (0), FAN_OUT (1) or their AVERAGE (2)."""
    fan_in = blob.numel() / _outputs(blob, param)
    fan_out = blob.numel() / (blob.shape[1] if blob.dim() > 1 else 1)
    return (fan_in, fan_out, (fan_in + fan_out) / 2)[param.variance_norm]


@_filler
def constant(blob, param):
    blob.fill_(param.value)


@_filler
def uniform(blob, param):
    if not -math.inf < param.min <= param.max < math.inf:
        ends = f"{param.min:g} and {param.max:g}"
        raise ValueError(f"a uniform filler needs min <= max, both finite, got {ends}")
    blob.uniform_(param.min, param.max)


@_filler
def gaussian(blob, param):
    """N(mean, std²); with `sparse: n` each weight is kept with probability n / (number of outputs)."""
    if not 0 <= param.std < math.inf or not math.isfinite(param.mean):
        raise ValueError(
            f"a gaussian filler needs a finite mean and std >= 0, got {param.mean:g} and {param.std:g}"
        )
    blob.normal_(param.mean, param.std)
    if param.sparse >= 0:
        blob.mul_(torch.bernoulli(torch.full_like(blob, min(1.0, param.sparse / _outputs(blob, param)))))


@_filler
def positive_unitball(blob, param):
    """U(0, 1), then every row (blob[i]) divided by its sum."""
    rows = blob.uniform_(0, 1).view(_outputs(blob, param), -1)
    rows.div_(rows.sum(1, keepdim=True))


@_filler
def xavier(blob, param):
    bound = math.sqrt(3 / _fan(blob, param))
    blob.uniform_(-bound, bound)


@_filler
def msra(blob, param):
    blob.normal_(0, math.sqrt(2 / _fan(blob, param)))


@_filler
def bilinear(blob, param):
    """The kernel of bilinear upsampling, the same in every [..., k, k] plane."""
    if blob.dim() != 4 or blob.shape[2] != blob.shape[3]:
        raise ValueError(
            f"filler 'bilinear' needs a blob of 4 axes with a square kernel, got {list(blob.shape)}"
        )
    f = math.ceil(blob.shape[3] / 2)
    centre = (blob.shape[3] - 1) / (2 * f)
    line = 1 - (torch.arange(blob.shape[3], dtype=blob.dtype) / f - centre).abs()
    blob.copy_(line[:, None] * line)


@_filler
def identity(blob, param):
    """value · I (the default value is 1, not 0), zero off the diagonal; for one matrix."""
    if blob.dim() != 2:
        raise ValueError(f"filler 'identity' needs a matrix, got {list(blob.shape)}")
    value = param.value if param.HasField("value") else 1.0
    torch.nn.init.eye_(blob).mul_(value)
