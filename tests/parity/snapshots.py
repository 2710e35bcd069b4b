"""Snapshots between crnn and the real Caffe, each going on from the other's: `make parity`.

python -m tests.parity.snapshots [--write tests/parity/SNAPSHOTS.md]

Every solver of tests/goldens/solvers trains five iterations on one side and five on the other, handed over in
binary and in HDF5 files. The error is that of the last weights, relative, against the real Caffe's own ten.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from crnn.solver.solver import Solver
from crnn.testing import golden, relative_error

from .__main__ import write
from .both import ORACLE

CASES = sorted(path.parent.name for path in golden("solvers").glob("*/mid.caffemodel"))
TOLERANCE = 2e-6
FORMATS = {"binary": "", "HDF5": ".h5"}
SHARED = """
layer { name: "twin" type: "InnerProduct" bottom: "conv" top: "twin" inner_product_param { num_output: 5 }
  param { name: "w" lr_mult: 10 decay_mult: 1 } param { name: "b" lr_mult: 0 decay_mult: 0 } }
layer { name: "sum" type: "Eltwise" bottom: "fc" bottom: "twin" top: "sum" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }
"""


def caffe(folder: Path, first: int, last: int, out: str, state: str | None = None) -> dict:
    """What resume.py stores. Raises RuntimeError with Caffe's words where it dies."""
    words = ["solver.prototxt", "golden.npz", str(first), str(last), out, *([state] if state else [])]
    program = Path(__file__).with_name("resume.py")
    done = subprocess.run([ORACLE, program, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return dict(np.load(folder / out))


def ours(arrays: dict, first: int, last: int, state: str | None = None) -> Solver:
    """Our solver of the current folder after iterations first .. last-1."""
    solver = Solver("solver.prototxt")
    if state:
        solver.restore(state)
    else:
        with torch.no_grad():
            for param in solver.net.params:
                param.parameter.copy_(torch.from_numpy(arrays[f"init/{param.layer}/{param.index}"]))
    for k in range(first, last):
        solver.step(1, {name: torch.from_numpy(arrays[f"in/{name}"][k]) for name in ("data", "label")})
    return solver


def error(found: dict, wanted: dict) -> float:
    return max(relative_error(torch.from_numpy(found[key]), torch.from_numpy(wanted[key])) for key in found)


def handed_over(name: str, shared: bool, kind: str) -> tuple[float, float]:
    """(ours -> Caffe, Caffe -> ours): errors of the weights after the second five iterations."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file in ("golden.npz", "net.prototxt", "solver.prototxt"):
            shutil.copy(golden(f"solvers/{name}") / file, folder)
        if shared:
            share(folder / "net.prototxt")
        with open(folder / "solver.prototxt", "a") as text:
            text.write(f"snapshot_format: {'HDF5' if kind == 'HDF5' else 'BINARYPROTO'}\n")
        arrays, before = dict(np.load(folder / "golden.npz")), os.getcwd()
        os.chdir(folder)
        try:
            whole = caffe(folder, 0, 10, "whole.npz")
            last = {key: value for key, value in whole.items() if key.startswith("param/10/")}
            state = ours(arrays, 0, 5).snapshot()
            theirs = caffe(folder, 5, 10, "theirs.npz", state)
            if theirs["iter"] != 5:
                raise RuntimeError(f"Caffe went on from iteration {theirs['iter']}, not 5")
            out = error({key: theirs[key] for key in last}, last)
            Path(f"{state.removesuffix('.h5').removesuffix('.solverstate')}.resume.json").unlink()
            caffe(folder, 0, 5, "half.npz")
            net = ours(arrays, 5, 10, f"snap_iter_5.solverstate{FORMATS[kind]}").net
            blobs = {f"param/10/{p.layer}/{p.index}": p.parameter.detach().numpy() for p in net.params}
            return out, error(blobs, last)
        finally:
            os.chdir(before)


def share(path: Path) -> None:
    """Gives the goldens' net a second layer with the first one's weights."""
    text = path.read_text()
    head = text[: text.index('layer { name: "loss"')]
    head = head.replace("param { lr_mult: 10 decay", 'param { name: "w" lr_mult: 10 decay')
    head = head.replace("param { lr_mult: 0 decay", 'param { name: "b" lr_mult: 0 decay')
    path.write_text(head + SHARED)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.parity.snapshots", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--write", type=Path, help="file whose table gets the rows")
    options = parser.parse_args(argv)
    if not ORACLE.exists():
        sys.exit(f"{ORACLE} is not there: `make oracle` builds it, given a Python 3.9")
    rows, failed = [], 0
    for name, shared in [*((name, False) for name in CASES), ("sgd_step", True)]:
        errors = [value for kind in FORMATS for value in handed_over(name, shared, kind)]
        failed += max(errors) > TOLERANCE
        title = f"{name}, shared weights" if shared else name
        rows.append(f"| {title} | {' | '.join(f'{value:.1e}' for value in errors)} |")
        print(rows[-1], flush=True)
    if options.write:
        write(options.write, rows)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
