"""The recurrence in plain torch: the definition that every other backend is tested against.

Written to be read. A cell is one function; one loop runs all of them; autograd supplies the backward. It
works on any device and dtype that torch's own operators take.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .plan import Direction

#: Added to the variance of the layer normalisation (Xie 2016, eq. 15).
LN_EPS = 1e-5

Step = Callable[[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


class Cell(NamedTuple):
    """One row of CELLS.

    step(x, w, prev, p) -> states: x the G inputs W_ih x + b [N, D], w the G recurrent matrices [D, D], prev
    the S states before the step [N, D] (h first), p the cell's own parameters [D].
    """

    step: Step
    gates: int
    states: int = 1
    params: int = 0
    saved: int = 0  # values per position and channel that the compiled backends keep for backward
    reset: int | None = None  # the saved value that multiplies h for the last gate's product, if there is one
    masked: bool = False  # backward asks of h only whether it is above 0: CUDA keeps a bit for it


def relu(x, w, prev, p):
    """h = relu(W_ih x + b + W_hh h). Zuo 2015, eq. 3-6."""
    return [torch.relu(x[0] + prev[0] @ w[0].T)]


def tanh(x, w, prev, p):
    """h = tanh(W_ih x + b + W_hh h). Caffe: RNNLayer."""
    return [torch.tanh(x[0] + prev[0] @ w[0].T)]


def ln_relu(x, w, prev, p):
    """h = relu(gain * norm(W_ih x + W_hh h) + b), norm over the channels, no b in x. Xie 2016, eq. 14-15."""
    gain, bias = p
    a = x[0] + prev[0] @ w[0].T
    centred = a - a.mean(-1, keepdim=True)
    norm = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + LN_EPS)
    return [torch.relu(gain * norm + bias)]


def lstm(x, w, prev, p):
    """Gates i, f, o, g; c' = f c + i g; h = o tanh(c'). Caffe: LSTMLayer; Guo 2018, eq. 2-7."""
    h, c = prev
    i, f, o, g = (a + h @ m.T for a, m in zip(x, w, strict=True))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


def half_gru(x, w, prev, p):
    """Gates h', z; h' = relu(x' + U h); h = (1 - z) h_before + z h'. Zhang 2018, eq. 2."""
    (h,) = prev
    z = torch.sigmoid(x[1] + h @ w[1].T)
    return [(1 - z) * h + z * torch.relu(x[0] + h @ w[0].T)]


def gru_of(f):
    def gru(x, w, prev, p):
        """Gates z, r, c; the reset acts before the product: c = f(x_c + W_c (r h)). Xie 2016, eq. 10-13."""
        (h,) = prev
        z, r = torch.sigmoid(x[0] + h @ w[0].T), torch.sigmoid(x[1] + h @ w[1].T)
        return [(1 - z) * f(x[2] + (r * h) @ w[2].T) + z * h]

    return gru


#: The cells by name, in the order of `Cells` in csrc/core/cells.h.
CELLS = {
    "relu": Cell(relu, gates=1, masked=True),
    "tanh": Cell(tanh, gates=1),
    "ln_relu": Cell(ln_relu, gates=1, params=2, saved=1),
    "gru": Cell(gru_of(torch.relu), gates=3, saved=3, reset=1),
    "gru_tanh": Cell(gru_of(torch.tanh), gates=3, saved=3, reset=1),
    "lstm": Cell(lstm, gates=4, states=2, saved=4),
    "half_gru": Cell(half_gru, gates=2, saved=2),
}


def scan(
    z: Tensor,
    w_hh: Tensor,
    plan: Sequence[Direction],
    cell: str,
    cell_params: Tensor | None = None,
    initial: Tensor | None = None,
    cont: Tensor | None = None,
) -> Tensor:
    """All states of every position, [S, P, N, K, D]. Arguments as `crnn.ops.scan`."""
    step, gates, states, own = CELLS[cell][:4]
    P, N, K, _ = z.shape
    D = w_hh.shape[2]
    if (cell_params is not None) != (own > 0):
        wanted = "[K, that, D]" if own else "None"
        raise RuntimeError(f"cell {cell!r} has {own} parameters of its own: cell_params must be {wanted}")
    if initial is not None and list(initial.shape) != [states, N, K, D]:
        raise RuntimeError(f"initial must be {[states, N, K, D]}, got {list(initial.shape)}")
    per_direction = []
    for k, (d, inputs) in enumerate(zip(plan, z.unbind(2), strict=True)):
        inputs = inputs.unbind(0)  # P times [N, G*D]; one unbind: its backward is one stack
        matrices, params = w_hh[k].chunk(gates), () if cell_params is None else cell_params[k].unbind(0)
        start = [z.new_zeros(N, D)] * states if initial is None else list(initial[:, :, k].unbind(0))
        state, out = start, [None] * P
        for s, p in enumerate(d.positions()):
            if not d.value_crosses(s):
                state = start
            elif not d.gradient_crosses(s):
                state = [v.detach() for v in state]  # h alone: the product with it stays in dW_hh (eq. 9)
            if cont is not None:
                state = [v * cont[p].unsqueeze(1) for v in state]
            state = step(inputs[p].chunk(gates, -1), matrices, state, params)
            out[p] = torch.stack(state)  # [S, N, D]
        per_direction.append(torch.stack(out, 1))
    return torch.stack(per_direction, 3)
