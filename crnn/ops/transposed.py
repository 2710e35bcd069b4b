"""The transposed op, and what it is for: a map's change between contiguous and channels_last order.

A scan reads a position's channels as one row; a map in contiguous order has them far apart. Torch's copy
from one order to the other goes value by value and takes two to four times as long as the bytes do.
"""

import torch
from torch import Tensor

from . import backend
from .transforms import forward_ad

LEAST = 1 << 17  #: values of a map, below which the time of a call is more than what it saves


def transposed(x: Tensor) -> Tensor:
    """x [N, A, B], contiguous -> [N, B, A], contiguous. Differentiable any number of times.

    Raises:
        RuntimeError: x has not three axes, is not contiguous, of no floating dtype, or not on the CPU.
    """
    return torch.ops.crnn.transposed(x)


def in_order(x: Tensor, channels_last: bool) -> Tensor:
    """x [N, C, H, W] in channels_last or contiguous order: x itself where it lies so, else a copy. Under
    torch.func, which knows no channels_last order, x as it lies."""
    wanted, other = torch.contiguous_format, torch.channels_last
    if channels_last:
        wanted, other = other, wanted
    if channels_last and torch._C._are_functorch_transforms_active():
        return x
    if not _pays(x) or x.is_contiguous(memory_format=wanted) or not x.is_contiguous(memory_format=other):
        return x.contiguous(memory_format=wanted)
    N, C, H, W = x.shape
    if channels_last:
        return _kernel(x.flatten(2)).view(N, H, W, C).permute(0, 3, 1, 2)
    return _kernel(x.permute(0, 2, 3, 1).flatten(1, 2)).view(N, C, H, W)


def _pays(x: Tensor) -> bool:
    """Whether the op may run, and has values enough."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and not forward_ad()
        and x.numel() >= LEAST
        and x.is_floating_point()
        and backend.choose(x) == "cpu"
    )


def _kernel(x: Tensor) -> Tensor:
    return _Eager.apply(x) if torch.is_grad_enabled() else _below_autograd(x)


def _below_autograd(x: Tensor) -> Tensor:
    """The op's kernel, past what register_autograd put before it."""
    with torch._C._AutoDispatchBelowAutograd():
        return torch.ops.crnn.transposed.default(x)


class _Eager(torch.autograd.Function):
    """The op for eager mode, as in scan.py."""

    @staticmethod
    def forward(ctx, x):
        return _below_autograd(x)

    @staticmethod
    def backward(ctx, dy):
        return _kernel(dy.contiguous())


if "cpu" in backend.backends():  # the schema comes with the extension
    torch.library.register_fake("crnn::transposed", lambda x: x.new_empty(x.shape[0], x.shape[2], x.shape[1]))
    torch.library.register_autograd("crnn::transposed", lambda ctx, dy: transposed(dy.contiguous()))
