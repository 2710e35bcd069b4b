"""The spatial_scan op: a scan with its neighbours in one call.

Once a scan is one kernel, bytes bound it (L-RNN's maps above all). The directions' sum reads all states again
to write one map; the projection writes z for the scan to read. On CUDA the sum is made from the second-level
cache, where the states have just been written, and z = W_ih x + b stays in registers, in float; on the CPU
a thread takes its part of the map through all directions and sums them in its cache, and W_ih is multiplied
by the scan's own product. What is saved for backward is the scan's, so that backward is the scan's too, and
three products more.
Kernels: csrc/cuda/spatial_table.cuh, csrc/cpu/spatial_cpu.cpp.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import backend
from .plan import Direction, LineBreak, flat
from .scan import dense, fake_scan, gradients
from .transforms import below_autograd, check_devices, forward_ad, register_autocast


def spatial_scan(
    x: Tensor,
    w_ih: Tensor | None,
    bias: Tensor | None,
    w_hh: Tensor,
    plan: Sequence[Direction],
    cell: str = "relu",
    cell_params: Tensor | None = None,
    combine: str = "sum",
    variant: str = "",
) -> tuple[Tensor, Tensor]:
    """W_ih x + b, the scan of it, and the sum of its directions. The definition: `spatial_scan_reference`.

    Differentiable in all tensors, once; of the results, in y, or in the states where combine is "concat".

    Args:
        x: [P, N, C], any strides over P and N; without w_ih z itself, [P, N, K, G*D], as in `crnn.ops.scan`.
        w_ih: [K, G*D, C], or [1, G*D, C] for all directions, or None; bias: [K, G*D], or [1, G*D] beside such
            a w_ih, or None.
        w_hh, plan, cell, cell_params: as `crnn.ops.scan`.
        combine: "sum" or "mean" of the directions; "concat": neither, the states are the result.

    Returns:
        y [N, P, D], a map in channels_last order (empty for "concat"), and h [P, N, K, D].

    Raises:
        ValueError: the reference is to run.
        RuntimeError: shapes or dtypes that do not fit together, or no kernel for them: it says why.
    """
    y, state = sum_and_states(x, w_ih, bias, w_hh, plan, cell, cell_params, combine, variant)
    return y, state[0]


def sum_and_states(
    x, w_ih, bias, w_hh, plan, cell, cell_params, combine, variant="", states=True
) -> tuple[Tensor, Tensor]:
    """y and all states [S, P, N, K, D], or none of them, where they are not asked for and no gradient may be;
    arguments as `spatial_scan`."""
    optional = [
        t if t is None or t.is_contiguous() else t.contiguous() for t in (w_ih, bias, w_hh, cell_params)
    ]
    kernel = _kernel(x)
    states = states or kernel is not _below_autograd
    return kernel(dense(x), *optional, flat(plan), cell, combine, variant, states)[:2]


def same_positions(plan: Sequence[Direction]) -> bool:
    """Whether the directions' chains hold the same positions, one by one: what their sum needs. Without
    `reset`, always: each holds the map. As Direction::same_segments in csrc/core/plan.h."""

    def lines(d: Direction):
        if d.line_break != LineBreak.RESET or d.lines == 1:
            return None
        lowest = d.origin + sum(
            min(0, (n - 1) * s) for n, s in ((d.length, d.step_stride), (d.lines, d.line_stride))
        )
        return d.length, d.lines, abs(d.step_stride), abs(d.line_stride), lowest

    return len({lines(d) for d in plan}) == 1


def _kernel(x: Tensor):
    if backend.choose(x) == "reference":
        raise ValueError("crnn::spatial_scan is not for the reference backend; use scan")
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type):
        return torch.ops.crnn.spatial_scan.default
    return _Eager.apply if torch.is_grad_enabled() or forward_ad() else _below_autograd


def _below_autograd(*args):
    return below_autograd(torch.ops.crnn.spatial_scan.default, *args)


def _fake(x, w_ih, bias, whh, cell_params, plan, cell, combine, variant="", states=True):
    check_devices("spatial_scan", x, w_ih, bias, whh, cell_params)
    (P, N), K, D = x.shape[:2], whh.shape[0], whh.shape[2]
    y = x.new_empty(0 if combine == "concat" else N, P, D)
    if not states:
        return y, x.new_empty(0), x.new_empty(0)
    return y, *fake_scan(x.new_empty(P, N, K, 0), whh, cell_params, None, None, plan, cell)


def _setup_context(ctx, inputs, output):
    x, w_ih, _, whh, cell_params, ctx.plan, ctx.cell, ctx.combine, _, states = inputs
    if not states:
        raise ValueError("crnn::spatial_scan: without its states it has no gradient; states must be true")
    y, state, saved = output
    ctx.mark_non_differentiable(saved, y if ctx.combine == "concat" else state)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, w_ih, whh, cell_params, state, saved)


def _backward(ctx, dy, dstate, _dsaved):
    x, w_ih, whh, cell_params, state, saved = ctx.saved_tensors
    wants, kept = ctx.needs_input_grad, (whh, cell_params, None, None, state, saved, ctx.plan, ctx.cell)
    if (dstate if ctx.combine == "concat" else dy) is None:  # nothing depends on the result
        return (None,) * 10
    if ctx.combine != "concat":
        dy = (dy / len(whh) if ctx.combine == "mean" else dy).contiguous()
        dstate = of_states(dy, *state.shape[::3])
    dz, dparams, _, dwhh = gradients(wants[3], dense(dstate), *kept)
    of_input = (dz, None, None) if w_ih is None else through_projection(dz, x, w_ih, wants)
    return *of_input, dwhh, dparams if wants[4] else None, None, None, None, None, None


def of_states(dy: Tensor, S: int, K: int) -> Tensor:
    """The gradient of the states [S, P, N, K, D] from that of their sum [N, P, D]: the same for all K."""
    planes = dy.unsqueeze(0) if S == 1 else torch.stack([dy, *[torch.zeros_like(dy)] * (S - 1)])
    return planes.transpose(1, 2).unsqueeze(3).expand(-1, -1, -1, K, -1)


def through_projection(dz: Tensor, x: Tensor, w_ih: Tensor, wants: Sequence[bool]):
    """dx [P, N, C], dW_ih and db from dz [P, N, K, G*D]; x is None where dW_ih is not wanted."""
    by_sample = dz.device.type == "cpu" and not dz.is_contiguous()  # as a map in channels_last order lies
    if by_sample:  # the order in which dz is not copied
        dz, x = dz.transpose(0, 1), None if x is None else x.transpose(0, 1)
    dx = dw_ih = dbias = None
    if w_ih.shape[0] == 1 and dz.shape[2] > 1:
        dz = dz.sum(2, keepdim=True)
    P, N, K, GD = dz.shape  # or N, P
    C = w_ih.shape[2]
    # Not flatten, for which is_grads_batched has no rule.
    rows, weights = dz.reshape(P * N, K * GD), w_ih.reshape(K * GD, C)
    if wants[0] and dz.device.type == "cpu":
        dx = (rows @ weights).view(P, N, C)
        dx = dx.transpose(0, 1) if by_sample else dx
    elif wants[0]:  # with strides: a map in channels_last order comes out, dz is not copied
        by_sample_rows = rows.view(P, N, K * GD).transpose(0, 1)
        dx = torch.bmm(by_sample_rows, weights.expand(N, -1, -1)).transpose(0, 1)
    if wants[1]:
        dw_ih = (rows.mT @ x.reshape(P * N, C)).view(K, GD, C)
    if wants[2]:
        dbias = rows.sum(0).view(K, GD)
    return dx, dw_ih, dbias


class _Eager(torch.autograd.Function):
    """The op for eager mode, as in scan.py."""

    backward = staticmethod(_backward)

    @staticmethod
    def forward(ctx, *args):
        output = _below_autograd(*args)
        _setup_context(ctx, args, output)
        return output


if "cpu" in backend.backends():  # the schema comes with the extension
    torch.library.register_fake("crnn::spatial_scan", _fake)
    torch.library.register_autograd("crnn::spatial_scan", _backward, setup_context=_setup_context)
    register_autocast("spatial_scan")
