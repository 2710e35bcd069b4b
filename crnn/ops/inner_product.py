"""The inner_product op: a few rows times a large matrix, as in fully connected layers of small batches."""

import torch
import torch.nn.functional as F
from torch import Tensor

from . import backend
from .transforms import forward_ad

#: With more of them, or one, torch's own product is as fast. Its own for AVX512 gain from 16 rows on.
FEW_ROWS = 15 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 64
LARGE = 1 << 20  # values of a matrix that does not stay in a core's caches


def inner_product(x: Tensor, weight: Tensor, bias: Tensor | None = None, variant: str = "") -> Tensor:
    """x weight^T + bias. Caffe: src/caffe/layers/inner_product_layer.cpp.

    2 to FEW_ROWS rows on the CPU, in float32 or float64, and a matrix of at least LARGE values are computed
    by kernels of ours, which read the matrix once; all else by F.linear. Differentiable any number of times.

    Args:
        x: [..., K].
        weight: [O, K].
        bias: [O].
        variant: a kernel of ours by name, whatever the shapes; "" takes the best that fits.

    Returns:
        Tensor [..., O].

    Raises:
        RuntimeError: shapes or dtypes that do not fit together, or an unknown variant.
    """
    if not variant and not _pays(x, weight, bias):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    y = torch.ops.crnn.inner_product(rows, weight.contiguous(), variant)
    y = y.unflatten(0, x.shape[:-1]) if x.dim() != 2 else y
    return y if bias is None else y + bias


def _pays(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    return (
        weight.dim() == 2
        and (bias is None or (bias.shape == weight.shape[:1] and bias.dtype == x.dtype))
        and weight.numel() >= LARGE
        and x.shape[-1] < x.numel() <= FEW_ROWS * weight.shape[1]
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and x.dtype == weight.dtype
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and not forward_ad()
        and backend.choose(x) == "cpu"
    )


# y = x W^T, dx = dy W and dW = dy^T x are linear in both their tensors; the gradients of each are the others.
def _save(ctx, inputs, output):
    *tensors, ctx.variant = inputs
    ctx.save_for_backward(*tensors)


def _backward(first, second):
    """Of an op: from the gradient and the op's two tensors, the gradient of the first and of the second."""

    def backward(ctx, g):
        tensors = g.contiguous(), *ctx.saved_tensors
        parts = zip((first, second), ctx.needs_input_grad, strict=False)
        return *(part(*tensors, ctx.variant) if wanted else None for part, wanted in parts), None

    return backward


def _register(name: str, fake, first, second) -> None:
    torch.library.register_fake(f"crnn::{name}", fake)
    torch.library.register_autograd(f"crnn::{name}", _backward(first, second), setup_context=_save)


if "cpu" in backend.backends():  # the schema comes with the extension
    _y = torch.ops.crnn.inner_product
    _dx = torch.ops.crnn.inner_product_input_backward
    _dw = torch.ops.crnn.inner_product_weights_backward
    _register(
        "inner_product",
        lambda x, w, variant="": x.new_empty(x.shape[0], w.shape[0]),
        lambda dy, x, w, variant: _dx(dy, w, variant),
        lambda dy, x, w, variant: _dw(dy, x, variant),
    )
    _register(
        "inner_product_input_backward",
        lambda dy, w, variant="": dy.new_empty(dy.shape[0], w.shape[1]),
        lambda g, dy, w, variant: _y(g, w, variant),
        lambda g, dy, w, variant: _dw(dy, g, variant),
    )
    _register(
        "inner_product_weights_backward",
        lambda dy, x, variant="": x.new_empty(dy.shape[1], x.shape[1]),
        lambda g, dy, x, variant: _y(x, g, variant),
        lambda g, dy, x, variant: _dx(dy, g, variant),
    )
