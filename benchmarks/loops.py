"""The scan as the loop that a user writes: `unbind`, lines of a `reset` as one batch, an addmm a step."""

import torch

from crnn.ops import LineBreak
from crnn.ops.reference import CELLS


def unrolled(plan, cell="relu", device="cpu"):
    """The autograd loop over a plan: a function (z, w_hh, cell_params) -> h [P, N, K, D]."""
    orders = [torch.tensor(d.positions(), device=device) for d in plan]
    backs = [torch.argsort(order) for order in orders]

    def loop(z, w_hh, cell_params=None):
        outputs = []
        for k, d in enumerate(plan):
            steps = z[:, :, k].index_select(0, orders[k])  # in the order of the visit
            lines = d.lines if d.line_break == LineBreak.RESET else 1  # those of a reset advance together
            steps = steps.unflatten(0, (lines, -1)).transpose(0, 1).flatten(1, 2)
            params = () if cell_params is None else cell_params[k].unbind(0)
            out = torch.stack(visit(steps.unbind(0), w_hh[k], d, cell, params))
            out = out.unflatten(1, (lines, -1)).transpose(0, 1).flatten(0, 1)
            outputs.append(out.index_select(0, backs[k]))
        return torch.stack(outputs, 2)

    return loop


def visit(steps, w_hh, d, cell, params):
    """h of each step of one direction; steps: [N, G*D] each."""
    step, gates, states = CELLS[cell][:3]
    one_product = {"relu": torch.relu, "tanh": torch.tanh}.get(cell)
    weights = w_hh.chunk(gates)
    state, out = [steps[0].new_zeros(len(steps[0]), w_hh.shape[1])] * states, []
    for s, x in enumerate(steps):
        if s % d.length == 0 and d.line_break == LineBreak.CARRY_VALUE:
            state = [v.detach() for v in state]
        if one_product:
            state = [one_product(torch.addmm(x, state[0], w_hh.T) if s else x)]
        else:
            state = step(x.chunk(gates, -1), weights, state, params)
        out.append(state[0])
    return out
