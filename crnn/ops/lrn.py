"""The lrn op: local response normalisation, Caffe's LRN layer in both regions."""

import torch
from torch import Tensor

from . import backend, lrn_reference
from .transforms import differentiable_once, forward_ad, in_channels_last


def lrn(
    x: Tensor,
    size: int = 5,
    alpha: float = 1.0,
    beta: float = 0.75,
    k: float = 1.0,
    within: bool = False,
    variant: str = "",
) -> Tensor:
    """x (k + alpha mean x^2)^-beta, the mean over a window around each value; zeros beyond the edges count.

    Differentiable once in x; more often in `use_backend("reference")`. Backward computes the means again:
    nothing but x is kept. Caffe: src/caffe/layers/lrn_layer.cpp (its WITHIN_CHANNEL has k = 1).

    Args:
        x: [N, C, H, W], read in place where contiguous or in channels_last order.
        size: length of the window, odd.
        within: the window is size x size positions of one channel; else size channels at one position.
        variant: a kernel of the backend by name; "" takes the best that fits.

    Returns:
        Tensor like x. bfloat16 and float16 compute in float32.

    Raises:
        ValueError: x has not 4 axes or size is even; a forced backend that cannot take the tensor.
        RuntimeError: a dtype that is not floating, or an unknown variant.
    """
    if x.dim() != 4:
        raise ValueError(f"lrn: x must be [N, C, H, W], got {list(x.shape)}")
    if size < 1 or size % 2 == 0:
        raise ValueError(f"lrn: size must be odd, got {size}")
    if backend.choose(x) == "reference":
        return lrn_reference.lrn(x, size, alpha, beta, k, within)
    return _run(_dense(x), size, alpha, beta, k, within, variant)


def _run(*args) -> Tensor:
    func = torch._C._are_functorch_transforms_active() or forward_ad()
    return _Lrn.apply(*args) if func else torch.ops.crnn.lrn(*args)


def _order(x: Tensor) -> torch.memory_format:
    last = in_channels_last(x) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _dense(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=_order(x))


def _fake_lrn(x, size, alpha, beta, k, within, variant=""):
    return torch.empty_like(x)


def _fake_lrn_backward(dy, x, size, alpha, beta, k, within, variant=""):
    return torch.empty_like(x)


def _setup_context(ctx, inputs, output):
    x, *ctx.rest = inputs
    ctx.save_for_backward(x)


def _backward(ctx, dy):
    (x,) = ctx.saved_tensors
    dy = dy.contiguous(memory_format=_order(x))
    return _once(dy, x, *ctx.rest), *[None] * 6


def _batched(run, tensors, dims, rest):
    """run on a batch of tensors [N, C, H, W], folded into N."""
    B = next(t.shape[d] for t, d in zip(tensors, dims, strict=True) if d is not None)
    folded = [
        t.expand(B, *t.shape) if d is None else t.movedim(d, 0) for t, d in zip(tensors, dims, strict=True)
    ]
    out = run(*(t.flatten(0, 1).contiguous() for t in folded), *rest)
    return out.unflatten(0, (B, -1)), 0


def _vmap(info, in_dims, x, *rest):
    return _batched(_run, [x], in_dims[:1], rest)


def _vmap_backward(info, in_dims, dy, x, *rest):
    return _batched(_once, [dy, x], in_dims[:2], rest)


class _Lrn(torch.autograd.Function):
    """The op for torch.func, which cannot differentiate through register_autograd."""

    generate_vmap_rule = False
    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_backward)
    vmap = staticmethod(_vmap)

    @staticmethod
    def forward(*args):
        return torch.ops.crnn.lrn(*args)


if "cpu" in backend.backends():  # the schema comes with the extension
    torch.library.register_fake("crnn::lrn", _fake_lrn)
    torch.library.register_fake("crnn::lrn_backward", _fake_lrn_backward)
    torch.library.register_autograd("crnn::lrn", _backward, setup_context=_setup_context)
    torch.library.register_vmap("crnn::lrn", _vmap)
    torch.library.register_vmap("crnn::lrn_backward", _vmap_backward)
    _once = differentiable_once("lrn_backward", _vmap_backward)
