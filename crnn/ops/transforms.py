"""How torch's autocast, vmap and further derivatives treat an op of ours."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Where a tensor of an op holds the batch N and the directions K; None: nowhere.
Axes = tuple[int | None, int | None]


def autocasts(device: str) -> bool:
    """Whether autocast is on, for a device that has it."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def autocast_args(device: str, args: Sequence) -> list:
    """`args` with every floating tensor but float64 in autocast's dtype, where autocast is on."""
    if not autocasts(device):
        return list(args)
    dtype = torch.get_autocast_dtype(device)

    def cast(value):
        eligible = isinstance(value, Tensor) and value.is_floating_point() and value.dtype != torch.float64
        return value.to(dtype) if eligible else value

    return [cast(value) for value in args]


_library = torch.library.Library("crnn", "FRAGMENT")


def register_autocast(op: str) -> None:
    """Under autocast crnn::op runs on tensors of autocast's dtype, whichever that is.

    (torch.library.register_autocast wants the dtype now.)
    """
    for device in ("cpu", "cuda"):

        def kernel(*args, device=device):
            args = autocast_args(device, args)
            with torch.autocast(device, enabled=False):
                return getattr(torch.ops.crnn, op)(*args)

        _library.impl(op, kernel, f"Autocast{device.upper()}")


def differentiable_once(op: str, vmap: Callable) -> Callable:
    """crnn::op, a backward, whose own gradient is refused: torch would take it for zero.

    vmap: its rule, as torch.func finds none below an autograd.Function.
    """
    run = getattr(torch.ops.crnn, op).default

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(*args):
            return run(*args)

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, *gradients):
            raise RuntimeError(
                f"crnn::{op} is not differentiable: for second derivatives compute both in "
                "crnn.ops.use_backend('reference')"
            )

    Once.vmap = staticmethod(vmap)

    def call(*args):
        again = torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()
        return Once.apply(*args) if again else run(*args)

    return call


def below_autograd(op: Callable, *args):
    """The op's kernel, past what register_autograd put before it."""
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def forward_ad() -> bool:
    """Whether derivatives may go forward, for which the ops have no rule: an autograd.Function refuses them,
    a kernel below autograd would drop them."""
    return torch.autograd.forward_ad._current_level >= 0


def in_channels_last(x: Tensor) -> bool:
    """Whether x [N, C, H, W] lies so; under torch.func, which cannot tell, no."""
    func = torch._C._are_functorch_transforms_active()
    return not func and x.is_contiguous(memory_format=torch.channels_last)


def check_devices(op: str, *tensors: Tensor | None) -> None:
    """Raises RuntimeError where tensors lie on several devices: for fake kernels, which no kernel's check
    follows."""
    devices = {str(t.device) for t in tensors if t is not None}
    if len(devices) > 1:
        raise RuntimeError(f"crnn::{op}: tensors on {' and '.join(sorted(devices))}; move them to one device")


def batching_rule(
    run: Callable,
    inputs: Sequence[Axes],
    outputs: Sequence[Axes],
    weights: Sequence[int],
    summed: int | None = None,
) -> Callable:
    """The rule of torch.vmap for an op, whose leading arguments are tensors or None and the next a plan.

    A batch of B calls is one call: on B * N samples where the B share their weights, else along B * K
    directions; or call after call where one of the B's own arguments has no such axis (cont beside weights).

    Args:
        run: the op, differentiable where other transforms of torch.func are around the vmap.
        inputs: the axes of the leading arguments; outputs: those of the results.
        weights: arguments without samples: where they differ among the B, these become directions.
        summed: the argument whose gradient, a result, is a sum over the samples: it keeps the B apart.
    """

    def rule(info, in_dims, *args):
        B, count = info.batch_size, len(inputs)
        single = len(outputs) == 1  # such an op gives a tensor, not a tuple
        tensors, dims, (plan, *rest) = args[:count], in_dims[:count], args[count:]
        to_directions = any(dims[i] is not None for i in weights)
        to_directions |= summed is not None and tensors[summed] is not None
        axes, out_dims = ([pair[to_directions] for pair in table] for table in (inputs, outputs))
        if any(dim is not None and axis is None for dim, axis in zip(dims, axes, strict=True)):
            calls = [run(*take(b, tensors, dims), plan, *rest) for b in range(B)]
            if single:
                return torch.stack(calls), 0
            return tuple(torch.stack(parts) for parts in zip(*calls, strict=True)), (0,) * len(outputs)
        folded = [fold(t, d, a, B) for t, d, a in zip(tensors, dims, axes, strict=True)]
        results = run(*folded, list(plan) * B if to_directions else plan, *rest)
        unfolded = [
            r if a is None else r.unflatten(a, (B, r.shape[a] // B))
            for r, a in zip([results] if single else results, out_dims, strict=True)
        ]
        return (unfolded[0], out_dims[0]) if single else (tuple(unfolded), tuple(out_dims))

    return rule


def take(b: int, tensors: Sequence[Tensor | None], dims: Sequence[int | None]) -> list[Tensor | None]:
    """The arguments of call b."""
    return [t if d is None else t.select(d, b).contiguous() for t, d in zip(tensors, dims, strict=True)]


def fold(tensor: Tensor | None, dim: int | None, axis: int | None, B: int) -> Tensor | None:
    """`tensor`, B times along `dim` (None: the same B times), as one with B times the length of `axis`."""
    if tensor is None or axis is None:
        return tensor
    if dim is None:
        tensor = tensor.unsqueeze(axis).expand(*tensor.shape[:axis], B, *tensor.shape[axis:])
    else:
        tensor = tensor.movedim(dim, axis)
    return tensor.flatten(axis, axis + 1).contiguous()
