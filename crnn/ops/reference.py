"""The recurrence in plain torch: the definition that every other backend is tested against.

Written to be read. A cell is one function; one loop runs all of them; autograd supplies the backward. It
works on any device and dtype that torch's own operators take.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .plan import Direction

Step = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


class Cell(NamedTuple):
    """One row of CELLS.

    step(in, rec, prev) -> states, all [N, D]: G in (W_ih x + b) and rec (W_hh h), S in prev and states.
    """

    step: Step
    gates: int
    states: int
    saved: int  # values per position and channel that the compiled backends keep for backward
    same_grad: bool  # whether d rec == d in, so that the compiled backward returns one of them


def relu(i, r, prev):
    """h = relu(W_ih x + b + W_hh h). Zuo 2015, eq. 3-6."""
    return [torch.relu(i[0] + r[0])]


def tanh(i, r, prev):
    """h = tanh(W_ih x + b + W_hh h). Caffe: RNNLayer."""
    return [torch.tanh(i[0] + r[0])]


#: The cells by name, in the order of `Cells` in csrc/core/cells.h.
CELLS = {
    "relu": Cell(relu, gates=1, states=1, saved=0, same_grad=True),
    "tanh": Cell(tanh, gates=1, states=1, saved=0, same_grad=True),
}


def scan(
    z: Tensor,
    w_hh: Tensor,
    plan: Sequence[Direction],
    cell: str,
    initial: Tensor | None = None,
    cont: Tensor | None = None,
) -> Tensor:
    """All states of every position, [S, P, N, K, D]. Arguments as `crnn.ops.scan`."""
    step, gates, states = CELLS[cell][:3]
    P, N, _, _ = z.shape
    D = w_hh.shape[2]
    per_direction = []
    for k, (d, inputs) in enumerate(zip(plan, z.unbind(2), strict=True)):
        inputs = inputs.unbind(0)  # P times [N, G*D]; one unbind: its backward is one stack
        start = [z.new_zeros(N, D)] * states if initial is None else list(initial[:, :, k].unbind(0))
        state, out = start, [None] * P
        for s, p in enumerate(d.positions()):
            if not d.value_crosses(s):
                state = start
            elif not d.gradient_crosses(s):
                state = [v.detach() for v in state]
            if cont is not None:
                state = [v * cont[p].unsqueeze(1) for v in state]
            recurrent = state[0] @ w_hh[k].T  # where only h was detached, the product stays in dW_hh (eq. 9)
            state = step(inputs[p].chunk(gates, -1), recurrent.chunk(gates, -1), state)
            out[p] = torch.stack(state)  # [S, N, D]
        per_direction.append(torch.stack(out, 1) if out else z.new_zeros(states, 0, N, D))
    return torch.stack(per_direction, 3)
