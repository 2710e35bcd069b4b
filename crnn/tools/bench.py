"""bench: the compiled scan against the autograd loop that a user would write, in one run.

The loop is the honest one: `unbind` views, lines of a `reset` scan as one batch, one addmm a step. A case is
timed only after its values and gradients agree with that loop's in float64. Both sides alternate in one
process. The floor is what the arithmetic takes at this machine's own matrix-product rate, measured in the
same run.
"""

import argparse
import json
import os
import platform
import statistics
import time
from functools import partial

import torch

import crnn
from crnn.ops import LineBreak, backends, scan, use_backend
from crnn.ops.reference import CELLS
from crnn.testing import FOUR, ScanCase, assert_near, relative_error

CASES = {
    "C-RNN pool5, windows": ScanCase("relu", "carry_value", FOUR, 32, 6, 6, 256),
    "L-RNN rows": ScanCase("relu", "reset", ("right", "left"), 8, 32, 32, 64),
}


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


def forward(function, inputs, dh):
    with torch.no_grad():
        function(*inputs)


def forward_backward(function, inputs, dh):
    torch.autograd.grad(function(*inputs), inputs, dh)


def check(case: ScanCase) -> float:
    """The largest relative error of values and gradients in float32 against the loop in float64."""
    worst, tensors = 0.0, case.inputs(torch.float64)
    for dtype in (torch.float64, torch.float32):
        inputs = [tensors[k].to(dtype).requires_grad_() for k in ("z", "w_hh")]
        side = unrolled(case.plan) if dtype == torch.float64 else partial(scan, plan=case.plan)
        h = side(*inputs)
        results = [h, *torch.autograd.grad(h, inputs, torch.ones_like(h))]
        if dtype == torch.float64:
            wanted = results
    for got, want in zip(results, wanted, strict=True):
        assert_near(got, want, 2e-6)
        worst = max(worst, relative_error(got, want))
    return worst


def wall(function):
    """A timer of one call on the CPU, for `interleaved`."""

    def timer() -> float:
        start = time.perf_counter()
        function()
        return (time.perf_counter() - start) * 1e3

    return timer


def interleaved(timers, runs: int, warm_up: int = 2) -> list[dict[str, float]]:
    """Median, p20 and p80 milliseconds of each timer (one run each, in ms), called in turn: A B A B."""
    samples = [[] for _ in timers]
    for run in range(warm_up + runs):
        for timer, times in zip(timers, samples, strict=True):
            ms = timer()
            if run >= warm_up:
                times.append(ms)
    return [spread(times) for times in samples]


def spread(times: list[float]) -> dict[str, float]:
    """Median, p20 and p80 of at least two times."""
    cuts = statistics.quantiles(times, n=10)
    return {"ms": statistics.median(times), "p20": cuts[1], "p80": cuts[7]}


def matrix_rate() -> float:
    """Multiply-adds per second of torch's float32 matrix product, best of fifty."""
    a, times = torch.randn(1024, 1024), []
    for _ in range(50):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 1024**3 / min(times)


def rows(runs: int) -> list[dict]:
    rate, table = matrix_rate(), []
    for name, case in CASES.items():
        error, inputs = check(case), [case.inputs(torch.float32)[k].requires_grad_() for k in ("z", "w_hh")]
        dh = torch.randn(case.H * case.W, case.N, len(case.directions), case.D)
        products = case.H * case.W * case.N * len(case.directions) * case.D**2
        for mode, run, passes in (("forward", forward, 1), ("forward+backward", forward_backward, 3)):
            sides = (partial(scan, plan=case.plan), unrolled(case.plan))
            mine, peer = interleaved([wall(partial(run, side, inputs, dh)) for side in sides], runs)
            floor = passes * products / rate * 1e3
            table.append({"name": name, "case": str(case), "mode": mode, "crnn": mine, "autograd loop": peer})
            table[-1] |= {"speedup": peer["ms"] / mine["ms"], "floor ms": floor, "error": error}
    return table


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="crnn bench", description=__doc__.split(": ", 1)[1])
    parser.add_argument(
        "--runs", type=int, default=25, help="timed runs of each side (default 25, at least 2)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the rows there")
    arguments = parser.parse_args(argv)
    if arguments.runs < 2:
        raise ValueError(f"--runs must be at least 2, got {arguments.runs}")
    if "cpu" not in backends():
        raise ValueError("the extension crnn._C is not built, so there is nothing to time: see `crnn doctor`")
    machine = {"crnn": crnn.__version__, "torch": torch.__version__, "machine": platform.machine()}
    machine |= {"threads": torch.get_num_threads(), "load": round(os.getloadavg()[0], 2)}
    print(", ".join(f"{k} {v}" for k, v in machine.items()))
    columns = (
        f"{'mode':<17} {'crnn ms (p20-p80)':>24} {'loop ms':>10} {'speedup':>8} {'of floor':>9} {'error':>8}"
    )
    print(f"{'':<22} {columns}")
    with use_backend("cpu"):
        table = rows(arguments.runs)
    for row in table:
        mine = row["crnn"]
        spread = f"{mine['ms']:.2f} ({mine['p20']:.2f}-{mine['p80']:.2f})"
        share = row["floor ms"] / mine["ms"]
        print(
            f"{row['name']:<22} {row['mode']:<17} {spread:>24} {row['autograd loop']['ms']:>10.2f} "
            f"{row['speedup']:>7.2f}x {share:>8.0%} {row['error']:>8.0e}"
        )
    print("floor: the multiply-adds alone at this machine's matrix-product rate, measured in this run")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as out:
            json.dump({"setup": machine, "rows": table}, out, indent=1)
    return 0
