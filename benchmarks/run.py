"""Times the ops against their peers, on the CPU or a GPU.

  python benchmarks/run.py --list                        what can be timed
  python benchmarks/run.py --filter crnn --quick         a first look
  python benchmarks/run.py --device cuda --dtype bf16    a GPU
  python benchmarks/run.py --base main                   this tree against another commit

A case is timed only after its output and every gradient agree with float64 (benchmarks/gate.py). Peers run in
the same process and take turns. The table goes to the terminal, everything to a new file in
benchmarks/results/.
"""

import argparse
import gc
import os
import sys
import time
from functools import partial
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "benchmarks"
os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # peak memory comes from the profiler, which chats
import torch

from crnn.host_memory import keep_freed

from . import base, cases, floors, machine, nn_rnn, peers, table, timing
from .gate import Problem
from .passes import UpdateProblem
from .timing import interleaved

SCHEMA = 1


def call(contestant, mode: str, gradient):
    """A function that runs a mode of a contestant once."""
    if mode == "update":
        return contestant.forward
    if mode == "forward+backward":
        return partial(contestant.forward_backward, gradient)

    def forward():
        with torch.set_grad_enabled(mode != "inference"):
            contestant.forward()

    return forward


def admit(problem: Problem, arguments) -> dict[str, dict]:
    """name -> entry of every contestant: "contestant" where it may be timed, else "na" with the reason."""
    entries = {}
    makers = peers.contestants(problem, arguments.compile, arguments.variants)
    for name, make in makers.items():
        try:
            contestant = problem.contestant(make())
            start = time.perf_counter()
            contestant.forward_backward(problem.gradient)
            timing.synchronise(problem.device)
            first = (time.perf_counter() - start) * 1e3
            errors = problem.errors(contestant)
        except (peers.NotAvailable, RuntimeError) as error:  # the table says what cannot run, and why
            entries[name] = {"na": reason(error)}
            continue
        refused = problem.refusal(errors)
        entries[name] = {"na": refused} if refused else {"contestant": contestant, "first_call_ms": first}
        entries[name]["errors"] = errors
    return entries


def reason(error: Exception) -> str:
    """The first line of a message, at most 120 characters of it, without our own file and line."""
    line = next(iter(str(error).strip().split("\n")), "") or type(error).__name__
    return line[line.find("crnn::") if "crnn::" in line else 0 :][:120]


def measure(entries: dict, problem: Problem, mode: str, arguments) -> dict[str, dict]:
    """The admitted contestants of one mode, timed in turn by each clock."""
    device, timed = problem.device, {}
    for name, entry in entries.items():
        timed[name] = {k: v for k, v in entry.items() if k != "contestant"}
    calls = {
        n: call(e["contestant"], mode, problem.gradient) for n, e in entries.items() if "contestant" in e
    }
    for name, function in calls.items():
        timed[name]["peak_bytes"] = timing.peak_bytes(function, device)
    wall = take_turns({n: timing.eager(f, device) for n, f in calls.items()}, arguments)
    for name, times in wall.items():
        timed[name]["wall"] = times
    if device == "cuda":
        for name, clocks in device_times(calls, wall, arguments).items():
            timed[name] |= clocks
    return timed


def take_turns(timers: dict, arguments) -> dict[str, dict]:
    """Times of all timers, called in turn; as many runs as the seconds of a row allow, at least five."""
    if not timers:
        return {}
    round_ms = max(sum(timer() for timer in timers.values()), 1e-3)
    runs = max(5, min(arguments.runs, int(arguments.seconds * 1e3 / round_ms)))
    spreads = interleaved(list(timers.values()), runs, warm_up=max(1, runs // 4))
    return {name: {**s, "runs": runs} for name, s in zip(timers, spreads, strict=True)}


def device_times(calls: dict, wall: dict, arguments) -> dict[str, dict]:
    """clock -> times of each call that a CUDA graph can hold; a reason for each that it cannot."""
    found, hot, cold = {name: {} for name in calls}, {}, {}
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    flush = torch.empty(2 * l2, dtype=torch.int8, device="cuda")
    for name, function in calls.items():
        repeats = 10 if wall[name]["ms"] < 1 else 1
        try:
            hot[name] = timing.replayed(timing.capture(function, repeats), repeats, None)
            cold[name] = timing.replayed(timing.capture(function, 1), 1, flush)
        except RuntimeError as error:
            torch.cuda.synchronize()
            found[name] = {clock: {"na": f"no CUDA graph: {reason(error)}"} for clock in ("device", "cold")}
            hot.pop(name, None)
    for clock, timers in (("device", hot), ("cold", cold)):
        for name, times in take_turns(timers, arguments).items():
            found[name][clock] = times
    return found


def rows(arguments, say, result: dict) -> None:
    """Fills in the rows, the shapes that the time did not reach, and the rates by dtype."""
    found, left_out, rates, began = [], [], {}, time.monotonic()
    result |= {"rows": found, "left_out": left_out, "rates": rates}
    for dtype in arguments.dtype:
        cases.set_tf32(dtype)
        known = floors.measure(dtype, arguments.device)
        rates[dtype] = known._asdict()
        for shape in cases.select(arguments.device, arguments.filter):
            for op in cases.ops_of(shape.case):
                if op not in arguments.op:
                    continue
                if time.monotonic() - began > arguments.budget:
                    left_out.append(f"{shape.name} {op} {dtype}")
                    continue
                say(f"{shape.name} {op} {dtype}")
                found += shape_rows(shape, op, dtype, known, arguments)
                gc.collect()
        known = known.better(floors.measure(dtype, arguments.device))  # the first may have met a busy machine
        rates[dtype] = known._asdict()
        for row in found:
            if row["dtype"] == dtype:
                row["floor"] = floors.floor(floors.Work.of(row["floor"]), known)


def shape_rows(shape, op: str, dtype: str, rates, arguments) -> list[dict]:
    """A row a mode."""
    case, device = shape.case, arguments.device
    problem = UpdateProblem(case, dtype, device) if op == "update" else Problem(case, op, dtype, device)
    entries = admit(problem, arguments)
    if device == "cuda" and "contestant" in entries.get("nn.RNN", {}):
        entries["nn.RNN"]["note"] = cudnn_note(shape, dtype)
    found = []
    for mode in ("update",) if op == "update" else arguments.mode:
        work = floors.work(case, op, mode, cases.DTYPES[dtype].itemsize)
        row = {"name": shape.name, "op": op, "case": case._asdict(), "dtype": dtype, "mode": mode}
        row["floor"] = floors.floor(work, rates)
        row["naive_errors"] = problem.naive
        row["contestants"] = measure(entries, problem, mode, arguments)
        found.append(row)
    return found


def cudnn_note(shape, dtype: str) -> str:
    """Which algorithm cuDNN was asked for, by torch's rules, and in how many calls."""
    chip = torch.cuda.get_device_properties(0)
    choose = partial(nn_rnn.algorithm, shape.case, dtype)
    named = [
        choose(forward, chip.multi_processor_count, (chip.major, chip.minor)) for forward in (True, False)
    ]
    count = nn_rnn.calls(shape.case)
    return f"{shape.name} {dtype}: {count} calls of cuDNN, forward {named[0]}, backward {named[1]}"


def parse(argv: list[str] | None, prog: str) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog=prog, description=__doc__, formatter_class=formatter)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--dtype", nargs="+", choices=cases.DTYPES, default=["fp32"], help="default fp32")
    add("--filter", default="", metavar="TEXT", help="shapes with TEXT in their name")
    add("--op", nargs="+", choices=cases.OPS, default=list(cases.OPS), help="default all")
    add("--mode", nargs="+", choices=table.MODES, default=list(table.MODES), help="default all three")
    add("--runs", type=int, help="most timed runs of each contestant (25 on the CPU, 100 on a GPU)")
    add("--seconds", type=float, default=3, help="about what the runs of one row may take (default 3)")
    add("--budget", type=float, default=float("inf"), help="seconds after which no new shape is begun")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="the torch.compile'd loop")
    add("--variants", action="store_true", help="every kernel of ours that fits, beside the chosen one")
    add("--quick", action="store_true", help="five runs, forward+backward only, no torch.compile")
    add("--threads", type=int, help="of the CPU (default: torch's)")
    add("--base", metavar="REV", help="compare with this commit, built in a temporary folder")
    add("--out", type=Path, default=machine.RESULTS, metavar="FOLDER", help=machine.RESULTS_HELP)
    add("--markdown", action="store_true", help="print the table as markdown")
    add("--list", action="store_true", help="list the shapes of the device and stop")
    arguments = parser.parse_args(argv)
    keep_freed()  # as `crnn train`; for either side
    if arguments.device == "cpu" and "tf32" in arguments.dtype:
        parser.error("--dtype tf32 is a mode of GPUs; on the CPU use fp32")
    arguments.runs = arguments.runs or (100 if arguments.device == "cuda" else 25)
    if arguments.quick:
        arguments.runs, arguments.mode, arguments.compile = 5, ["forward+backward"], False
    return arguments


def main(argv: list[str] | None = None, prog: str = "benchmarks/run.py") -> int:
    arguments = parse(argv, prog)
    if arguments.list:
        for shape in cases.select(arguments.device, arguments.filter):
            print(f"{shape.name:<28} {shape.case}")
        return 0
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device cuda: torch {torch.__version__} sees no GPU here")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = {
        "schema": SCHEMA,
        "setup": machine.setup(arguments.device),
        "before": machine.state(arguments.device),
    }
    say = partial(print, file=sys.stderr, flush=True)
    if arguments.base:
        result |= base.compare(arguments, say)
    else:
        try:
            rows(arguments, say, result)
        except KeyboardInterrupt:  # what was measured is kept
            result["left_out"].append("everything after the interruption")
    result["after"] = machine.state(arguments.device)
    layout = table.markdown if arguments.markdown else table.terminal
    print(", ".join(f"{k} {v}" for k, v in {**result["setup"], **result["before"]}.items()))
    print(table.tables(result, layout))
    machine.write("base" if arguments.base else "ops", result, arguments.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks/run.py: {error}")
