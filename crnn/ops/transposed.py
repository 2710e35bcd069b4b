"""The transposed op, and what it is for: a map's change between contiguous and channels_last order.

A scan reads a position's channels as one row; a map in contiguous order has them far apart. Torch's copy
from one order to the other goes value by value and takes two to four times as long as the bytes do.
"""

import torch
from torch import Tensor

from . import backend, transposed_reference
from .transforms import below_autograd, forward_ad

LEAST = 1 << 17  #: values of a map, below which the time of a call is more than what it saves


def transposed(x: Tensor) -> Tensor:
    """x [N, A, B], contiguous -> [N, B, A], contiguous. Differentiable any number of times.

    Raises:
        ValueError: a forced backend that cannot take the tensor.
        RuntimeError: x has not three axes, is not contiguous, or of no floating dtype.
    """
    if backend.choose(x) == "reference":
        return transposed_reference.transposed(x)
    return torch.ops.crnn.transposed(x)


def in_order(x: Tensor, channels_last: bool) -> Tensor:
    """x [N, C, H, W] in channels_last or contiguous order: x itself where it lies so, else a copy. Torch.func
    knows no channels_last order: there x stays as it lies."""
    wanted, other = torch.contiguous_format, torch.channels_last
    if channels_last:
        wanted, other = other, wanted
    if channels_last and torch._C._are_functorch_transforms_active():
        return x
    if not _pays(x) or x.is_contiguous(memory_format=wanted) or not x.is_contiguous(memory_format=other):
        return x.contiguous(memory_format=wanted)
    return _Moved.apply(x, channels_last) if torch.is_grad_enabled() else _moved(x, channels_last)


def _pays(x: Tensor) -> bool:
    """Whether the op may run, and has values enough."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._are_functorch_transforms_active()
        and not forward_ad()
        and x.numel() >= LEAST
        and x.is_floating_point()
        and backend.choose(x) == "cpu"
    )


def _moved(x: Tensor, channels_last: bool) -> Tensor:
    N, C, H, W = x.shape
    if channels_last:
        y = below_autograd(OP, x.reshape(N, C, H * W).contiguous()).view(N, H, W, C).permute(0, 3, 1, 2)
    else:
        rows = x.permute(0, 2, 3, 1).reshape(N, H * W, C).contiguous()
        y = below_autograd(OP, rows).view(N, C, H, W)
    return y.data  # no view, which could not be changed in place


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, channels_last):
        ctx.back = not channels_last
        return _moved(x, channels_last)

    @staticmethod
    def backward(ctx, dy):
        return (_Moved.apply if torch.is_grad_enabled() else _moved)(dy, ctx.back), None


if "cpu" in backend.backends():  # the schema comes with the extension
    OP = torch.ops.crnn.transposed.default
    torch.library.register_fake("crnn::transposed", lambda x: x.new_empty(x.shape[0], x.shape[2], x.shape[1]))
    torch.library.register_autograd("crnn::transposed", lambda ctx, dy: transposed(dy.contiguous()))
