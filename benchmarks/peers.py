"""The contestants: our op, and what a user has without it, as functions of the same inputs.

Each entry of `contestants` makes a function (z, w_hh, [cell_params]) -> h [P, N, K, D], for spatial_rnn
(x, w_ih, bias, w_hh) -> the summed map, or raises `NotAvailable` with the reason. Index tensors are made
beforehand, so that every peer can be captured in a CUDA graph.
"""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch

from crnn.ops import LineBreak, backends, plan, scan, spatial_rnn
from crnn.ops.reference import CELLS
from crnn.ops.spatial import VARIANTS
from crnn.testing import ScanCase

from . import nn_rnn, passes
from .gate import Contestant, Problem, plain_spatial
from .loops import unrolled

#: Longest chain that torch.compile is given: it unrolls the loop, and its time grows with the square.
COMPILED_STEPS = 48


class NotAvailable(Exception):
    """A contestant that does not exist for a case; the text is what the table says."""


def variants(device: str) -> list[str]:
    """The names of the op's kernels on a device, as it lists them when asked for one that is not there."""
    if device not in backends():
        return []
    z, w = torch.zeros(1, 1, 1, 1, device=device), torch.zeros(1, 1, 1, device=device)
    try:
        scan(z, w, plan(("right",), 1, 1, "carry"), variant="?")
    except RuntimeError as error:
        listed = str(error).split("known: ")[1].split("\n")[0].split(" (")[0]
        return [name.strip() for name in listed.split(",")]
    raise AssertionError("crnn::scan took the variant '?'")


def ours(case: ScanCase, device: str, variant: str = "") -> Callable:
    if device not in backends():
        raise NotAvailable(f"crnn has no compiled scan for {device} here: see `crnn doctor`")

    def crnn(z, w_hh, cell_params=None):
        return scan(z, w_hh, case.plan, case.cell, cell_params, variant=variant)

    return crnn


def ours_spatial(case: ScanCase, device: str, variant: str = "") -> Callable:
    ours(case, device)
    settings = (case.directions, case.line_break, case.cell)
    return lambda x, w_ih, bias, w_hh, gain=None: spatial_rnn(
        x, w_ih, bias, w_hh, *settings, gain=gain, variant=variant
    )


def batched(case: ScanCase, device: str) -> Callable:
    """The loop with all directions in one batched product a step (relu and tanh; one a gate otherwise)."""
    order = torch.tensor([d.positions() for d in case.plan], device=device)  # [K, P]
    lengths = {(d.length, d.lines) for d in case.plan}
    if len(lengths) > 1:
        raise NotAvailable("the directions' lines differ in length: no batch of them")
    (length, lines), (rule,) = lengths.pop(), {d.line_break for d in case.plan}
    lines = lines if rule == LineBreak.RESET else 1
    back, k = torch.argsort(order, 1).T, torch.arange(len(case.plan), device=device)
    step, gates, states = CELLS[case.cell][:3]
    one_product = {"relu": torch.relu, "tanh": torch.tanh}.get(case.cell)

    def bmm(z, w_hh, cell_params=None):
        N, D = z.shape[1], w_hh.shape[2]
        rows = z[order.T, :, k]  # [P, K, N, G*D] in the order of the visit
        rows = rows.unflatten(0, (lines, -1)).permute(1, 2, 0, 3, 4).flatten(2, 3)  # [L, K, lines*N, G*D]
        turned = w_hh.mT
        weights = [SimpleNamespace(T=m.mT) for m in w_hh.chunk(gates, 1)]  # `h @ w.T` of the cells, batched
        params = () if cell_params is None else [p.unsqueeze(1) for p in cell_params.unbind(1)]
        state, out = [rows.new_zeros(len(k), lines * N, D)] * states, []
        for s, x in enumerate(rows.unbind(0)):
            if s % length == 0 and rule == LineBreak.CARRY_VALUE:
                state = [v.detach() for v in state]
            if one_product:
                state = [one_product(torch.baddbmm(x, state[0], turned) if s else x)]
            else:
                state = step(x.chunk(gates, -1), weights, state, params)
            out.append(state[0])
        h = torch.stack(out).unflatten(2, (lines, N)).permute(2, 0, 1, 3, 4).flatten(0, 1)  # [P, K, N, D]
        return h[back, k].transpose(1, 2)

    return bmm


def compiled(case: ScanCase, device: str) -> Callable:
    steps = max(d.length * (1 if d.line_break == LineBreak.RESET else d.lines) for d in case.plan)
    if steps > COMPILED_STEPS:
        raise NotAvailable(f"torch.compile unrolls {steps} steps: minutes to hours")
    torch._dynamo.reset()
    return torch.compile(unrolled(case.plan, case.cell, device), fullgraph=True, dynamic=False)


def torch_rnn(problem: Problem) -> Contestant:
    reason = nn_rnn.differs(problem.case)
    if reason:
        raise NotAvailable(reason)
    return nn_rnn.build(problem.case, problem.inputs)


def contestants(problem: Problem, compiles: bool, every_variant: bool) -> dict[str, Callable]:
    """name -> a function that makes it. compiles: torch.compile too; every_variant: each kernel of ours."""
    case, device = problem.case, problem.device
    if problem.op == "update":
        return passes.update_contestants(problem)
    if problem.op == "lrn":
        return passes.lrn_contestants(case, device, compiles)
    if problem.op == "inner_product":
        return passes.inner_product_contestants(device)
    if problem.op == "transposed":
        return passes.transposed_contestants(device)
    if problem.op == "spatial_rnn":
        fused = VARIANTS[1:] if device == "cuda" else ()
        return {
            "crnn": partial(ours_spatial, case, device),
            **{f"crnn {name}": partial(ours_spatial, case, device, name) for name in fused},
            "nn.RNN": partial(torch_rnn, problem),
            "bmm loop": lambda: partial(plain_spatial, batched(case, device), case),
        }
    found = {
        "crnn": partial(ours, case, device),
        "autograd loop": partial(unrolled, case.plan, case.cell, device),
        "bmm loop": partial(batched, case, device),
    }
    if compiles:
        found["compiled loop"] = partial(compiled, case, device)
    for name in variants(device) if every_variant else ():
        found[f"crnn {name}"] = partial(ours, case, device, name)
    return found
