"""One window of a scan at a time: what C-RNN's window by window training needs (Zuo 2015, section 3.2.3).

A window is a line of every direction: window 0 of `right` is the top row, that of `left` the bottom row.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .plan import Direction, LineBreak, plan
from .scan import scan_states

FUTURE = ("cached", "input", "zero")


def count(order: Sequence[Direction]) -> int:
    """The number of windows. Raises ValueError unless all directions have as many, of equal length."""
    if len({(d.lines, d.length) for d in order}) > 1:
        lines = ", ".join(f"{d.lines} of {d.length}" for d in order)
        raise ValueError(f"windows need directions of equal lines (a square map), these have {lines}")
    return order[0].lines


@torch.no_grad()
def start(z, w_hh, order, cell, params, w: int, future: str, x: Tensor) -> Tensor:
    """The states [S, P, N, K, D] that window w of a new batch finds.

    Up to w they are those of a scan, after it `future`: "cached", those of the scan too; "input", the map x
    [N, D, H, W] itself; or "zero".

    Raises:
        ValueError: "input" with a map of other than D channels.
    """
    states = scan_states(z, w_hh, order, cell, params)
    if future == "cached":
        return states
    D = w_hh.shape[2]
    if future == "input" and x.shape[1] != D:
        raise ValueError(f"future_state 'input' needs as many channels as num_output, {D}, got {x.shape[1]}")
    fill = x.flatten(2).permute(2, 0, 1) if future == "input" else x.new_zeros(())
    for k, d in enumerate(order):
        later = torch.tensor(d.positions()[(w + 1) * d.length :], dtype=torch.int64, device=z.device)
        states[1:, later, :, k] = 0
        states[0, later, :, k] = fill[later] if future == "input" else fill
    return states


def step(z, w_hh, order, cell, params, w: int, states: Tensor) -> Tensor:
    """`states` [S, P, N, K, D] with window w computed anew from the last states of window w - 1.

    The gradient goes through window w alone: into z, w_hh and params, not into `states`.
    """
    n, directions = order[0].length, torch.arange(len(order), device=z.device)
    visits = torch.tensor(
        [d.positions() for d in order], device=z.device
    ).T  # [P, K], in the order of the visit
    now, before = visits[w * n : (w + 1) * n], visits[w * n - 1]
    # Indices in two places put their axes first: [n, K, N, G*D] and [K, S, N, D].
    inputs = z[now, :, directions].transpose(1, 2)
    initial = states[:, before, :, directions].permute(1, 2, 0, 3) if w else None
    line = plan(["right"] * len(order), 1, n, LineBreak.CARRY)
    h = scan_states(inputs, w_hh, line, cell, params, initial)  # [S, n, N, K, D]
    states = states.clone()
    states[:, now, :, directions] = h.permute(1, 3, 0, 2, 4)
    return states
