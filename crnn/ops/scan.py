"""The scan op: h_s = cell(z_s, W_hh h_{s-1}) along the directions of a plan."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from . import backend, reference
from .plan import Direction, LineBreak, flat
from .recurrent_gradient import recurrent_gradient
from .transforms import (
    autocast_args,
    autocasts,
    batching_rule,
    below_autograd,
    check_devices,
    differentiable_once,
    forward_ad,
    register_autocast,
)


def scan(
    z: Tensor,
    w_hh: Tensor,
    plan: Sequence[Direction],
    cell: str = "relu",
    cell_params: Tensor | None = None,
    initial: Tensor | None = None,
    cont: Tensor | None = None,
    variant: str = "",
) -> Tensor:
    """Hidden states of a recurrence whose input projection is already done.

    Differentiable in z, w_hh, cell_params and initial, once; more often in `use_backend("reference")`. What
    the gradient crosses is the plan's `line_break`.

    Args:
        z: [P, N, K, G*D] input pre-activations W_ih x + b; P positions, N batch, K directions, G gates. Any
            strides over P, N and K (a map in channels_last order enters as a view).
        w_hh: [K, G*D, D] recurrent weights.
        plan: K directions over the P positions (`crnn.ops.plan`).
        cell: a name in `reference.CELLS`.
        cell_params: the cell's own parameters [K, c, D] (ln_relu: gain and bias); None for other cells.
        initial: [S, N, K, D] states before the first step (before each line's first step with `reset`);
            default 0.
        cont: [P, N]; multiplies the states carried into position p of sample n: 0 starts anew (Caffe's
            `cont`).
        variant: a kernel of the backend by name; "" takes the best that fits.

    Returns:
        [P, N, K, D] hidden state of every position.

    Raises:
        ValueError: an unknown cell, or a forced backend that cannot take the tensors.
        RuntimeError: shapes or dtypes that do not fit together.
    """
    state = scan_states(z, w_hh, plan, cell, cell_params, initial, cont, variant)
    return state.squeeze(0) if len(state) == 1 else state[0]  # a selection's gradient is a copy among zeros


def scan_states(z, w_hh, plan, cell="relu", cell_params=None, initial=None, cont=None, variant="") -> Tensor:
    """All S states of every position, [S, P, N, K, D]; state 0 is h. Arguments as `scan`."""
    if cell not in reference.CELLS:
        raise ValueError(f"unknown cell {cell!r}; known: {', '.join(reference.CELLS)}")
    if backend.choose(z) == "reference":
        tensors = autocast_args(z.device.type, (z, w_hh, cell_params, initial, cont))
        off = torch.autocast(z.device.type, enabled=False) if autocasts(z.device.type) else nullcontext()
        with off:
            return reference.scan(*tensors[:2], plan, cell, *tensors[2:])
    optional = [None if t is None else t.contiguous() for t in (cell_params, initial, cont)]
    args = (dense(z), w_hh.contiguous(), *optional, flat(plan), cell, variant)
    return _kernel(z.device.type)(*args)[0]


def _kernel(device: str):
    """The op, with the gradient that costs least where it is called."""
    if torch._C._are_functorch_transforms_active():
        return lambda *args: _Scan.apply(*autocast_args(device, args))
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(device):
        return torch.ops.crnn.scan.default
    return _Eager.apply if torch.is_grad_enabled() or forward_ad() else _states


def dense(rows: Tensor) -> Tensor:
    """`rows` [..., K, D] with dense channels; directions that share one tensor (stride 0) still do."""
    if rows.stride(-1) == 1 or rows.shape[-1] <= 1:
        return rows
    if rows.numel() == 0:  # contiguous() would leave its strides
        return rows.new_empty(rows.shape)
    if rows.stride(-2) == 0 and rows.shape[-2] > 1:
        return rows.narrow(-2, 0, 1).contiguous().expand(rows.shape)
    return rows.contiguous()


def directions_of(flat: list[int]) -> list[Direction]:
    return [Direction(*flat[i : i + 5], LineBreak(flat[i + 5])) for i in range(0, len(flat), 6)]


def fake_scan(z, whh, cell_params, initial, cont, plan, cell, variant=""):
    check_devices("scan", z, whh, cell_params, initial, cont)
    (P, N, K, _), D, c = z.shape, whh.shape[2], reference.CELLS[cell]
    kept = (c.saved, D)
    if c.masked and z.device.type == "cuda":  # csrc/cuda/scan_call.h, mask_bytes
        kept = (1, -(-D // 128) * 16 // z.element_size())
    return z.new_empty(c.states, P, N, K, D), z.new_empty(P, N, K, *kept)


def _fake_scan_backward(dstate, whh, cell_params, initial, cont, state, saved, plan, cell, variant=""):
    S, P, N, K, D = state.shape
    params = reference.CELLS[cell].params
    by_sample = state.device.type == "cpu" and dstate.stride(2) >= dstate.stride(1)  # csrc/cpu/scan_cpu.cpp
    dz = state.new_empty(*((N, P) if by_sample else (P, N)), K, whh.shape[1])
    return (
        dz.transpose(0, 1) if by_sample else dz,
        state.new_empty(K if params else 0, params, D),
        state.new_empty(S, N, K, D),
    )


def _fake_whole_backward(dstate, whh, *rest):
    return *_fake_scan_backward(dstate, whh, *rest), torch.empty_like(whh)


def _setup_context(ctx, inputs, output):
    _, whh, cell_params, initial, cont, ctx.plan, ctx.cell, ctx.variant = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)  # no zeros as large as `saved`
    ctx.save_for_backward(whh, cell_params, initial, cont, *output)


def _backward(ctx, dstate, _dsaved):
    if dstate is None:  # nothing depends on the states
        return (None,) * 8
    wants = ctx.needs_input_grad
    dz, dparams, dinitial, dwhh = gradients(
        wants[1], dense(dstate), *ctx.saved_tensors, ctx.plan, ctx.cell, ctx.variant
    )
    return dz, dwhh, dparams if wants[2] else None, dinitial if wants[3] else None, None, None, None, None


def gradients(weights: bool, dstate, whh, cell_params, initial, cont, state, saved, plan, cell, variant=""):
    """dz, dcell_params, dinitial, and d W_hh [K, G*D, D] or, without `weights`, None."""
    args = (dstate, whh, cell_params, initial, cont, state, saved, plan, cell, variant)
    if not weights:
        return *_once(*args), None
    if dstate.device.type == "cpu":
        return _whole_once(*args)
    dz, *rest = _once(*args)
    reset = reference.CELLS[cell].reset
    return dz, *rest, recurrent_gradient(dz, initial, cont, state, saved, directions_of(plan), reset)


# Where each tensor holds N and K, for vmap. The second table: dstate, whh, ... -> dz, dcell_params, dinitial.
_SHARED = [(None, 0), (None, 0), (1, 2), (1, None)]  # whh, cell_params, initial, cont
_vmap = batching_rule(lambda *args: _for_func(*args), [(1, 2), *_SHARED], [(2, 3), (1, 2)], weights=(1, 2))
_vmap_backward = batching_rule(
    lambda *args: _once(*args),
    [(2, 3), *_SHARED, (2, 3), (1, 2)],
    [(1, 2), (None, 0), (1, 2)],
    weights=(1, 2),
    summed=2,
)
_vmap_whole_backward = batching_rule(
    lambda *args: _whole_once(*args),
    [(2, 3), *_SHARED, (2, 3), (1, 2)],
    [(1, 2), (None, 0), (1, 2), (None, 0)],
    weights=(1, 2),
    summed=0,
)


class _Scan(torch.autograd.Function):
    """The op for torch.func, which cannot differentiate through register_autograd."""

    generate_vmap_rule = False
    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_backward)
    vmap = staticmethod(_vmap)

    @staticmethod
    def forward(*args):
        return torch.ops.crnn.scan.default(*args)


def _for_func(*args):
    func = torch._C._are_functorch_transforms_active()
    return _Scan.apply(*args) if func else torch.ops.crnn.scan.default(*args)


def _states(*args):
    return below_autograd(torch.ops.crnn.scan.default, *args)


class _Eager(torch.autograd.Function):
    """The op for eager mode, where what register_autograd makes takes some 50 us a call."""

    backward = staticmethod(_backward)

    @staticmethod
    def forward(ctx, *args):
        output = _states(*args)
        _setup_context(ctx, args, output)
        return output


if "cpu" in backend.backends():  # the schema comes with the extension
    torch.library.register_fake("crnn::scan", fake_scan)
    torch.library.register_fake("crnn::scan_backward", _fake_scan_backward)
    torch.library.register_fake("crnn::scan_whole_backward", _fake_whole_backward)
    torch.library.register_autograd("crnn::scan", _backward, setup_context=_setup_context)
    torch.library.register_vmap("crnn::scan", _vmap)
    torch.library.register_vmap("crnn::scan_backward", _vmap_backward)
    torch.library.register_vmap("crnn::scan_whole_backward", _vmap_whole_backward)
    _once = differentiable_once("scan_backward", _vmap_backward)
    _whole_once = differentiable_once("scan_whole_backward", _vmap_whole_backward)
    register_autocast("scan")
