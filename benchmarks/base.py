"""`run.py --base REV`: this tree against another commit, in two processes that take turns."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from . import cases, floors
from .cases import ROOT
from .gate import Problem
from .timing import interleaved


@contextmanager
def checked_out(revision: str):
    """The tree of a commit, its extension built, in a temporary folder.

    Raises ValueError if there is no such commit, OSError if it cannot be built.
    """
    known = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if known.returncode:
        raise ValueError(f"--base {revision}: no such commit in {ROOT}")
    with tempfile.TemporaryDirectory(prefix="crnn-base-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run(
            [*git, "add", "--detach", str(tree), known.stdout.strip()], check=True, capture_output=True
        )
        try:
            build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
            built = subprocess.run(build, cwd=tree, capture_output=True, text=True, check=False)
            if built.returncode:
                raise OSError(f"--base {revision} cannot be built: {built.stderr.strip().splitlines()[-1]}")
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)


class Worker:
    """benchmarks/worker.py with the crnn of `tree`."""

    def __init__(self, tree: Path, threads: int):
        environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": str(threads)}
        environment["OMP_WAIT_POLICY"] = "passive"  # threads that spin would slow the other side's turn
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "worker.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        taken = self.answer()["crnn"]
        if Path(taken) != tree.resolve():
            raise OSError(f"the worker of {tree} took crnn from {taken}")

    def ask(self, **request) -> dict:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise OSError(f"the worker ended with status {self.process.wait()}")
        return json.loads(line)

    def timer(self) -> float:
        return self.ask()["ms"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()


def compare(arguments, say) -> dict:
    """Rows of the scan with the contestants "crnn" (this tree) and "base"."""
    rows, rates = [], {}
    with ExitStack() as stack:
        say(f"building {arguments.base}")
        trees = {"crnn": ROOT, "base": stack.enter_context(checked_out(arguments.base))}
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crnn-cases-")))
        threads = torch.get_num_threads()
        workers = {name: stack.enter_context(Worker(tree, threads)) for name, tree in trees.items()}
        for dtype in arguments.dtype:
            cases.set_tf32(dtype)
            rates[dtype] = floors.measure(dtype, arguments.device)
            for shape in cases.select(arguments.device, arguments.filter):
                if "scan" not in cases.ops_of(shape.case):
                    continue
                problem = Problem(shape.case, "scan", dtype, arguments.device)
                file = folder / "case.pt"
                torch.save(record(problem), file)
                for mode in arguments.mode:
                    say(f"{shape.name} {dtype} {mode}")
                    row = {"name": shape.name, "op": "scan", "dtype": dtype, "mode": mode}
                    work = floors.work(shape.case, "scan", mode, cases.DTYPES[dtype].itemsize)
                    row["floor"] = floors.floor(work, rates[dtype])
                    row["case"] = shape.case._asdict()
                    row["contestants"] = turns(workers, problem, str(file), mode, arguments.runs)
                    rows.append(row)
    return {"base": arguments.base, "rows": rows, "rates": {d: r._asdict() for d, r in rates.items()}}


def record(problem: Problem) -> dict:
    """What worker.py reads."""
    return {
        "inputs": {name: t.detach() for name, t in problem.inputs.items()},
        "plan": [tuple(map(int, d)) for d in problem.case.plan],
        "cell": problem.case.cell,
        "gradient": problem.gradient,
        "truth": problem.truth,
    }


def turns(workers: dict[str, Worker], problem: Problem, file: str, mode: str, runs: int) -> dict[str, dict]:
    """The workers that pass the gate, timed in turn."""
    found = {}
    for name, worker in workers.items():
        found[name] = worker.ask(file=file, dtype=problem.dtype, device=problem.device, mode=mode)
        refused = problem.refusal(found[name].get("errors", {}))
        if refused:
            found[name]["na"] = refused
    admitted = [name for name in workers if "na" not in found[name]]
    for name, times in zip(
        admitted, interleaved([workers[n].timer for n in admitted], runs, warm_up=3), strict=True
    ):
        found[name]["wall"] = {**times, "runs": runs}
    return found
