"""Trains a small net for long and watches what the process holds: memory, open files, threads.

python -m tests.faults.soak [--iterations 10000] [--write tests/faults/README.md]

It reads a database, tests, displays and snapshots. The slope of the memory is that of a line of least
squares through all samples but the first fifth. Exit code 1 where files or threads grew, or memory by more
than 0.1 KB an iteration.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import training
from .readme import put

MOST = 0.1  # KB an iteration
SAMPLES = 100
SOLVER = """net: "logged_net.prototxt" random_seed: 1 solver_mode: CPU
base_lr: 1e-5 momentum: 0.9 lr_policy: "fixed"
max_iter: {iterations} display: {every} average_loss: 20 test_iter: 2 test_interval: {every}
snapshot: {every} snapshot_keep: 3 snapshot_prefix: "out/run"
"""


def sample(pid: int) -> tuple[int, int, int]:
    """(KB of memory in use, open files, threads) of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory, threads = (int(re.search(rf"{name}:\s+(\d+)", status)[1]) for name in ("VmRSS", "Threads"))
    return memory, len(os.listdir(f"/proc/{pid}/fd")), threads


def soak(folder: Path, iterations: int) -> np.ndarray:
    """Rows (iteration, KB, files, threads), one at each display."""
    every = max(1, iterations // SAMPLES)
    training.prepare(folder)
    (folder / "solver.prototxt").write_text(SOLVER.format(iterations=iterations, every=every))
    command = [sys.executable, "-m", "crnn", "train", "-solver", "solver.prototxt"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    rows = []
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            shown = re.search(r"Iteration (\d+), lr = ", line)
            if shown:
                rows.append((int(shown[1]), *sample(process.pid)))
                if sys.stderr.isatty():
                    print(f"\r{shown[1]} of {iterations} ", end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise OSError(f"the training ended with exit code {process.returncode}")
    return np.array(rows)


def told(rows: np.ndarray, seconds: float) -> tuple[str, bool]:
    """The table, and whether nothing grew."""
    late = rows[len(rows) // 5 :]
    slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0])
    flat = slope <= MOST and all(late[-1, i] <= late[0, i] for i in (2, 3))
    lines = ["| iteration | memory, MB | open files | threads |", "|---|---|---|---|"]
    shown = rows[np.unique(np.linspace(0, len(rows) - 1, 6).astype(int))]
    lines += [f"| {i:,} | {memory / 1024:.1f} | {files} | {threads} |" for i, memory, files, threads in shown]
    end = int(rows[-1, 0]) + int(rows[1, 0] - rows[0, 0])
    lines += ["", f"{end:,} iterations in {seconds:.0f} s; memory: {slope:+.4f} KB an iteration."]
    return "\n".join(lines), flat


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--iterations", type=int, default=10_000, metavar="N", help="default 10,000")
    parser.add_argument("--write", type=Path, metavar="README", help="put the table there")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="crnn-soak-") as folder:
        rows = soak(Path(folder) / "training", arguments.iterations)
    text, flat = told(rows, time.monotonic() - started)
    print(text)
    if arguments.write:
        put(arguments.write, "soak", text)
    return int(not flat)


if __name__ == "__main__":
    sys.exit(main())
