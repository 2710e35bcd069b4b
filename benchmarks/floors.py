"""The floor of a case: what no kernel can undercut, from rates measured in the same run.

The largest of three times: the multiply-adds at the rate of this machine's own matrix product; the bytes that
must move (each input read once, each output written once) at the rate of its own copy; and the steps that
wait for each other, at the time of the op's own smallest step.
"""

import math
import time
from functools import partial
from typing import NamedTuple

import torch

from crnn.ops import LineBreak, backends, plan, scan
from crnn.ops.reference import CELLS
from crnn.testing import ScanCase

from .cases import DTYPES, Case
from .timing import capture, eager, replayed


class Work(NamedTuple):
    """What a case must do: floating-point operations, bytes through memory, dependent products."""

    flop: int
    bytes: int
    steps: int

    @classmethod
    def of(cls, floor: dict) -> "Work":
        """What a floor was made from."""
        return cls(*(floor[name] for name in cls._fields))


class Rates(NamedTuple):
    """flop/s and bytes/s, and seconds a dependent step (0 where no compiled op can show it)."""

    flop: float
    bytes: float
    step: float

    def better(self, other: "Rates") -> "Rates":
        """Of two measurements the better of each."""
        return Rates(max(self.flop, other.flop), max(self.bytes, other.bytes), min(self.step, other.step))


def work(case: Case, op: str, mode: str, itemsize: int) -> Work:
    """What `mode` of a case needs at least: one of `table.MODES`, "update" for the op of that name.

    Backward costs two products for each of the forward (dh and dW) and reads what the forward kept: the
    states, and the cell's `saved` values.
    """
    if op == "lrn":
        passes = 5 if mode == "forward+backward" else 2  # reads x, writes y; reads x and dy, writes dx
        return Work(0, passes * math.prod(case.shape) * itemsize, 0)
    if op == "update":  # reads blob, gradient and velocity; writes blob and velocity
        return Work(0, 5 * sum(map(math.prod, case.shapes)) * itemsize, 0)
    if op == "transposed":
        return Work(0, (4 if mode == "forward+backward" else 2) * math.prod(case) * itemsize, 0)
    if op == "inner_product":
        N, outputs, K = case
        macs, values = N * outputs * K, N * K + outputs * K + N * outputs
        passes = 3 if mode == "forward+backward" else 1  # y, dx, dW: each of two matrices makes the third
        return Work(2 * macs * passes, values * passes * itemsize, 0)
    c, K, P, D = CELLS[case.cell], len(case.directions), case.H * case.W, case.D
    rows = P * case.N * K  # states of all directions
    macs, weights, given, out = rows * c.gates * D * D, K * c.gates * D * D, rows * c.gates * D, rows * D
    kept = rows * (c.states + c.saved) * D
    written = kept  # h, the op's output, is among the states
    again = 0  # inputs that backward reads again
    if op == "spatial_rnn":  # z need never be in memory; one map comes in, one goes out
        macs, weights = 2 * macs, 2 * weights + K * c.gates * D
        given = out = again = P * case.N * D
        written = kept + out
    values = given + weights + (out if mode == "inference" else written)
    if mode == "forward+backward":
        values += out + kept + weights + again  # read: the gradient, what was kept
        values += given + weights  # written: the gradients
    passes = 3 if mode == "forward+backward" else 1
    return Work(2 * macs * passes, values * itemsize, dependent_steps(case, mode))


def dependent_steps(case: ScanCase, mode: str) -> int:
    """Products that wait for each other in the longest direction; backward, a cut gradient shortens them."""
    longest = 0
    for d in case.plan:
        forward = d.length if d.line_break == LineBreak.RESET else d.length * d.lines
        backward = d.length * d.lines if d.line_break == LineBreak.CARRY else d.length
        longest = max(longest, forward + (backward if mode == "forward+backward" else 0))
    return longest * (2 if CELLS[case.cell].reset is not None else 1)


def floor(needs: Work, rates: Rates) -> dict:
    """Milliseconds of each bound, the largest, and its name."""
    bounds = {
        "flop": needs.flop / rates.flop * 1e3,
        "bytes": needs.bytes / rates.bytes * 1e3,
        "chain": needs.steps * rates.step * 1e3,
    }
    limit = max(bounds, key=bounds.get)
    return {
        "ms": bounds[limit],
        "limit": limit,
        **{f"{k}_ms": v for k, v in bounds.items()},
        **needs._asdict(),
    }


def measure(dtype: str, device: str) -> Rates:
    """This machine's rates for a dtype, each the best of some runs: a floor is what nothing undercuts."""
    kind, rng = DTYPES[dtype], torch.Generator(device).manual_seed(2)
    side = (
        8192 if device == "cuda" and dtype in ("bf16", "fp16", "tf32") else 4096 if device == "cuda" else 1024
    )
    a, b = (torch.randn(side, side, generator=rng, device=device).to(kind) for _ in range(2))
    product = best(lambda: a @ b, device, 10 if device == "cuda" else 30)
    count = (2 << 30) // 8 if device == "cuda" else (256 << 20) // 8  # far beyond any cache
    source = torch.randn(count // 4, generator=rng, device=device).repeat(4)
    target = torch.empty_like(source)
    copy = best(lambda: target.copy_(source), device, 10)
    return Rates(2 * side**3 / product, 2 * source.nbytes / copy, step_seconds(device))


def best(function, device: str, runs: int) -> float:
    """Seconds of the fastest of `runs` calls, or of those that fit into two seconds."""
    timer = eager(function, device)
    if device == "cuda":
        timer = replayed(capture(function, 1), 1, None)
    times, end = [timer()], time.monotonic() + 2
    while len(times) <= runs and time.monotonic() < end:
        times.append(timer())
    return min(times) / 1e3


def step_seconds(device: str) -> float:
    """Seconds that one step waits for the one before: the slope between a short and a long chain of one row.

    In float32, 16 channels. 0 where the op is not compiled for the device: the step of
    a Python loop bounds nothing.
    """
    if device not in backends():
        return 0.0
    seconds, lengths, D = [], (64, 1024), 16
    for steps in lengths:
        z, w = torch.randn(steps, 1, 1, D, device=device), torch.randn(1, D, D, device=device) * 0.1
        order = plan(("right",), 1, steps, "carry")
        with torch.no_grad():
            seconds.append(best(partial(scan, z, w, order), device, 25))
    return max(seconds[1] - seconds[0], 0.0) / (lengths[1] - lengths[0])
