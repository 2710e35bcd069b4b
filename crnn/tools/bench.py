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
from crnn.testing import FOUR, ScanCase, assert_near, relative_error

CASES = {
    "C-RNN pool5, windows": ScanCase("relu", "carry_value", FOUR, 32, 6, 6, 256),
    "L-RNN rows": ScanCase("relu", "reset", ("right", "left"), 8, 32, 32, 64),
}


def loop(z, w_hh, plan):
    """The autograd loop, [P, N, K, D], for `right`, `left`, `down` and `up` with the relu cell."""
    outputs = []
    for k, d in enumerate(plan):
        order = torch.tensor(d.positions())
        steps = z[:, :, k].index_select(0, order)  # in the order of the visit
        if d.line_break == LineBreak.RESET:  # all lines advance together
            steps = steps.unflatten(0, (d.lines, d.length)).transpose(0, 1).flatten(1, 2)
        h, states, weight = None, [], w_hh[k].T
        for s, step in enumerate(steps.unbind(0)):
            if h is not None and d.line_break == LineBreak.CARRY_VALUE and s % d.length == 0:
                h = h.detach()
            h = torch.relu(step if h is None else torch.addmm(step, h, weight))
            states.append(h)
        out = torch.stack(states)
        if d.line_break == LineBreak.RESET:
            out = out.unflatten(1, (d.lines, -1)).transpose(0, 1).flatten(0, 1)
        outputs.append(out.index_select(0, torch.argsort(order)))
    return torch.stack(outputs, 2)


def ours(z, w_hh, plan):
    return scan(z, w_hh, plan, "relu")


def forward(function, inputs, plan, dh):
    with torch.no_grad():
        function(*inputs, plan)


def forward_backward(function, inputs, plan, dh):
    torch.autograd.grad(function(*inputs, plan), inputs, dh)


def check(case: ScanCase) -> float:
    """The largest relative error of values and gradients in float32 against the loop in float64."""
    worst, tensors = 0.0, case.inputs(torch.float64)
    for dtype in (torch.float64, torch.float32):
        inputs = [tensors[k].to(dtype).requires_grad_() for k in ("z", "w_hh")]
        h = (loop if dtype == torch.float64 else ours)(*inputs, case.plan)
        results = [h, *torch.autograd.grad(h, inputs, torch.ones_like(h))]
        if dtype == torch.float64:
            wanted = results
    for got, want in zip(results, wanted, strict=True):
        assert_near(got, want, 2e-6)
        worst = max(worst, relative_error(got, want))
    return worst


def interleaved(functions, runs: int) -> list[dict[str, float]]:
    """Median, p20 and p80 milliseconds of each function, called in turn."""
    samples = [[] for _ in functions]
    for run in range(runs + 2):  # two turns warm up
        for function, times in zip(functions, samples, strict=True):
            start = time.perf_counter()
            function()
            if run >= 2:
                times.append((time.perf_counter() - start) * 1e3)
    cuts = [statistics.quantiles(times, n=10) for times in samples]
    return [
        {"ms": statistics.median(t), "p20": c[1], "p80": c[7]} for t, c in zip(samples, cuts, strict=True)
    ]


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
            sides = [partial(run, function, inputs, case.plan, dh) for function in (ours, loop)]
            mine, peer = interleaved(sides, runs)
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
