"""Local response normalisation in plain torch: the definition that every backend is tested against."""

import torch.nn.functional as F
from torch import Tensor


def window_sum(x: Tensor, size: int, axis: int) -> Tensor:
    """The sum of the `size` values around each along `axis`, zeros beyond the ends."""
    half = min(size // 2, max(x.shape[axis] - 1, 0))
    padded = F.pad(x, [0, 0] * (x.dim() - 1 - axis) + [half, half])
    return sum(padded.narrow(axis, i, x.shape[axis]) for i in range(2 * half + 1))


def lrn(x: Tensor, size: int, alpha: float, beta: float, k: float, within: bool) -> Tensor:
    """Krizhevsky 2012, section 3.3, with Caffe's alpha / size; Caffe's WITHIN_CHANNEL. As `crnn.ops.lrn`."""
    axes = (2, 3) if within else (1,)
    total = x.square()
    for axis in axes:
        total = window_sum(total, size, axis)
    return x * (k + alpha / size ** len(axes) * total) ** -beta
