"""Everything that needs a GPU, in one command and within 8 minutes.

  benchmarks/gpu.sh                     all parts
  benchmarks/gpu.sh --only tests        some of them
  CRNN_PREBUILT=DIR benchmarks/gpu.sh   takes _C.abi3.so and _C_cuda.abi3.so from DIR, compiles nothing

Each part is a process of its own with a share of the time that is left; what a part does not use goes to
those after it. One that fails does not stop the next. The benchmarks' JSON, the log with all tables and the
summary go to $OUT, else to benchmarks/results/. The exit status is 0 only if every part passed.
"""

import argparse
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOTAL = 450  # seconds; the rest of the 8 minutes is for starting and ending
GRACE = 5  # seconds between asking a part to end and ending it
CHECK = (
    "import crnn.ops as o; print(o.backends(), o.backend.why_not['cuda']); exit('cuda' not in o.backends())"
)


@dataclass
class Part:
    """A step: its share of the time, and what it runs.

    command(seconds): the words of its program, told how long it may take; or a sentence why it cannot run.
    """

    name: str
    share: float
    command: Callable[[float], Sequence[str] | str]


@dataclass
class Outcome:
    name: str
    status: str  # passed, failed, cut off, not run
    seconds: float
    detail: str = ""


def python(script: str, *words) -> list[str]:
    return [sys.executable, str(ROOT / "benchmarks" / script), *map(str, words)]


def build(seconds: float) -> Sequence[str] | str:
    """Compiles both extensions in place, or takes compiled ones."""
    prebuilt, check = os.environ.get("CRNN_PREBUILT"), [sys.executable, "-c", CHECK]
    if not prebuilt:
        compile_ = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        return ["bash", "-c", f"{shlex.join(compile_)} && {shlex.join(check)}"]
    found = sorted(Path(prebuilt).glob("_C*.so"))
    if not any(p.name.startswith("_C_cuda") for p in found):
        return f"CRNN_PREBUILT={prebuilt}: no _C_cuda*.so there"
    for path in found:
        if path.parent.resolve() != ROOT / "crnn":
            shutil.copy(path, ROOT / "crnn" / path.name)
    return check


def tests(seconds: float) -> Sequence[str]:
    """The tests of the ops. Their options are stated: pyproject's need pytest-timeout."""
    options = [
        "-o",
        "addopts=",
        "-q",
        "--strict-markers",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
    ]
    return [sys.executable, "-m", "pytest", *options, "--durations=5", "-k", "cuda or gpu", "tests/ops"]


def sanitizer(tool: str) -> Callable[[float], Sequence[str] | str]:
    def command(seconds: float) -> Sequence[str] | str:
        places = [shutil.which("compute-sanitizer"), "/usr/local/cuda/bin/compute-sanitizer"]
        program = next((p for p in places if p and Path(p).exists()), None)
        if not program:
            return "no compute-sanitizer on this machine"
        return [program, "--tool", tool, "--error-exitcode", "9", *python("small.py")]

    return command


def scans(dtype: str, out: Path) -> Callable[[float], Sequence[str]]:
    def command(seconds: float) -> Sequence[str]:
        words = ["--device", "cuda", "--dtype", dtype, "--budget", seconds * 0.8, "--seconds", 0.3]
        compiles = "--compile" if dtype == "bf16" else "--no-compile"
        return python("run.py", *words, "--runs", 100, compiles, "--markdown", "--out", out)

    return command


def training(out: Path, *words) -> Callable[[float], Sequence[str]]:
    def command(seconds: float) -> Sequence[str]:
        return python(
            "train.py", "--device", "cuda", "--seconds", seconds / 8, "--markdown", "--out", out, *words
        )

    return command


def parts(out: Path) -> list[Part]:
    bf16 = ("--autocast", "bf16", "--channels-last")
    return [
        Part("build", 60, build),
        Part("tests", 90, tests),
        Part("memcheck", 45, sanitizer("memcheck")),
        Part("racecheck", 45, sanitizer("racecheck")),
        Part("scan-bf16", 75, scans("bf16", out)),
        Part("scan-fp16", 35, scans("fp16", out)),
        Part("train-bf16", 35, training(out, *bf16)),
        Part("scan-tf32", 30, scans("tf32", out)),
        Part("scan-fp32", 30, scans("fp32", out)),
        Part("train-tf32", 25, training(out, "--tf32")),
    ]


def run(chosen: Sequence[Part], total: float, log) -> list[Outcome]:
    """Runs the parts one after another, within `total` seconds."""
    outcomes, end = [], time.monotonic() + total
    for index, part in enumerate(chosen):
        left = end - time.monotonic()
        seconds = left * part.share / sum(p.share for p in chosen[index:])
        tell(log, f"\n=== {part.name}: up to {seconds:.0f} s of the {left:.0f} s left")
        outcomes.append(run_part(part, seconds, log))
        o = outcomes[-1]
        tell(log, f"=== {o.name}: {o.status} after {o.seconds:.0f} s{': ' * bool(o.detail)}{o.detail}")
    return outcomes


def run_part(part: Part, seconds: float, log) -> Outcome:
    """One part in a session of its own, ended with all its children when its time is over."""
    began = time.monotonic()
    words = part.command(seconds)
    if isinstance(words, str):
        return Outcome(part.name, "not run", 0.0, words)
    if seconds < 1:
        return Outcome(part.name, "not run", 0.0, "no time was left")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    status = follow(process, began + seconds, log)
    took = time.monotonic() - began
    if status is None:
        return Outcome(part.name, "cut off", took, f"did not fit into {seconds:.0f} s")
    return Outcome(
        part.name, "failed" if status else "passed", took, f"exit status {status}" if status else ""
    )


def follow(process: subprocess.Popen, end: float, log) -> int | None:
    """Passes on what the process says; its exit status, or None if it had to be ended."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, max(end - time.monotonic(), 0.01))
    try:
        for line in process.stdout:
            tell(log, line.rstrip("\n"))
        return process.wait()
    except TimeoutError:
        end_of(process, log)
        return None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        process.stdout.close()


def end_of(process: subprocess.Popen, log) -> None:
    """Asks as Ctrl-C does, at which pytest and run.py still report what they have; then ends it."""
    os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        tell(log, process.communicate(timeout=GRACE)[0].rstrip("\n"))
    with suppress(ProcessLookupError):  # its children may have outlived it, or not
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tell(log, text: str) -> None:
    print(text, flush=True)
    print(text, file=log, flush=True)


def no_gpu() -> str:
    """Why nothing can be measured here; "" if it can."""
    try:
        import torch
    except ImportError:
        return "benchmarks/gpu.sh needs torch, and this Python has none: say which with PYTHON=..."
    if not torch.cuda.is_available():
        return f"benchmarks/gpu.sh needs a CUDA GPU, and torch {torch.__version__} sees none on this machine"
    return ""


def main(argv: list[str] | None = None) -> int:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="benchmarks/gpu.sh", description=__doc__, formatter_class=formatter)
    out = Path(os.environ.get("OUT") or ROOT / "benchmarks" / "results")
    names = [part.name for part in parts(out)]
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=f"of {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=TOTAL, help=f"for all parts (default {TOTAL})")
    arguments = parser.parse_args(argv)
    reason = no_gpu()
    if reason:
        print(reason, file=sys.stderr)
        return 1
    signal.signal(signal.SIGINT, signal.default_int_handler)  # for the parts, where nohup had it ignored
    out.mkdir(parents=True, exist_ok=True)
    record = free_path(out)
    with open(record.with_suffix(".log"), "x", encoding="utf-8") as log:
        chosen = [p for p in parts(out) if not arguments.only or p.name in arguments.only]
        outcomes = run(chosen, arguments.seconds, log)
        tell(log, "\n" + summary(outcomes))
    record.write_text(json.dumps([vars(o) for o in outcomes], indent=1) + "\n")
    return 0 if all(o.status == "passed" for o in outcomes) else 1


def free_path(out: Path) -> Path:
    """A summary's name that is not taken: gpu_<day>[_2].json, its log beside it."""
    day = time.strftime("%Y-%m-%d", time.gmtime())
    names = (out / f"gpu_{day}{f'_{n}' if n > 1 else ''}.json" for n in itertools.count(1))
    return next(p for p in names if not p.exists() and not p.with_suffix(".log").exists())


def summary(outcomes: Sequence[Outcome]) -> str:
    rows = [f"{o.name:<12} {o.status:<8} {o.seconds:5.0f} s  {o.detail}".rstrip() for o in outcomes]
    bad = [o.name for o in outcomes if o.status != "passed"]
    return "\n".join([*rows, f"NOT PASSED: {', '.join(bad)}" if bad else "all parts passed"])


if __name__ == "__main__":
    sys.exit(main())
