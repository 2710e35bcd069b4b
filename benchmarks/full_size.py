"""Trains C-RNN as for ILSVRC: records of true size from an LMDB, its own Data layer, net, batch and solver.

  python benchmarks/full_size.py                      one iteration of 256 images on the CPU
  python benchmarks/full_size.py --device cuda        50 iterations

The images are made up (smooth colours with noise, 3 x 256 x 256, 1,000 labels), their database is not: two
batches as convert_imageset writes them, and their mean. Prints seconds and memory, writes both as JSON.
"""

import argparse
import resource
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    __package__ = "benchmarks"
import cv2
import numpy as np
import torch
from tqdm import tqdm

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto import pb
from crnn.proto.blobs import write_mean
from crnn.proto.upgrade import read_net, read_solver
from crnn.solver.solver import Solver

from . import machine, run, timing
from .train import rnn_alone

SIDE = 256  # of the stored images


def make_images(folder: Path, count: int, say) -> None:
    """`count` records in folder/train_lmdb; their mean in folder/mean.binaryproto."""
    rng, total = np.random.default_rng(1), np.zeros((3, SIDE, SIDE))
    with LmdbWriter(folder / "train_lmdb") as database:
        for i in tqdm(range(count), "images", disable=not say, leave=False):
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            image = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).transpose(2, 0, 1)
            image = np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
            database.put(b"%08d_%d" % (i, i), encode(image, int(rng.integers(1000))))
            total += image
    write_mean(folder / "mean.binaryproto", (total / count).astype(np.float32))


def solver_of(net: str, folder: Path, batch: int, device: str) -> Solver:
    """The net's own solver on the database of `folder`, without tests and snapshots."""
    home = run.cases.ROOT / "prototxt_like" / net
    param, solver = (
        read_net(home / "train_val.prototxt").message,
        read_solver(home / "solver.prototxt").message,
    )
    for layer in param.layer:
        if layer.type == "Data":
            layer.data_param.source, layer.data_param.batch_size = str(folder / "train_lmdb"), batch
            layer.transform_param.mean_file = str(folder / "mean.binaryproto")
    for field in ("net", "test_iter", "test_interval", "snapshot"):
        solver.ClearField(field)
    solver.net_param.CopyFrom(param)
    solver.snapshot_after_train, solver.random_seed, solver.display = False, 1, 0
    solver.solver_mode = pb.SolverParameter.GPU if device == "cuda" else pb.SolverParameter.CPU
    return Solver(solver, device=device)


def measure(arguments, say) -> dict:
    """Seconds of each iteration, the peak of memory, and what the recurrent layer takes by itself."""
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), 2 * arguments.batch, say)
        solver = solver_of(arguments.net, Path(folder), arguments.batch, arguments.device)
        step = timing.eager(partial(solver.step, 1), arguments.device)
        seconds = [step() / 1e3 for _ in tqdm(range(arguments.iterations), "iterations", disable=not say)]
        found = {"net": arguments.net, "batch": arguments.batch, "seconds": seconds}
        found |= {"peak_bytes": peak(arguments.device), "loss": solver.losses[-1]}
        if any(layer.name == "rnn" for layer in solver.net.layers):
            found["rnn_seconds"] = alone(solver, arguments)
    return found


def alone(solver: Solver, arguments) -> float:
    """Forward and backward of the recurrent layer, the median of five after one to warm up."""
    timer = timing.eager(rnn_alone(solver.net, arguments.batch, arguments.device), arguments.device)
    timer()
    return statistics.median(timer() for _ in range(5)) / 1e3


def peak(device: str) -> int:
    """Bytes: of the GPU as torch took them; else of the process, with what it maps of the database."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


def text(found: dict, device: str) -> str:
    seconds, batch = found["seconds"], found["batch"]
    typical = statistics.median(seconds[1:] or seconds)
    lines = [
        f"{found['net']}, batch {batch}, {device}, {len(seconds)} iterations, loss {found['loss']:.3f}",
        f"first iteration   {seconds[0]:.3f} s",
        f"median of others  {typical:.3f} s, {batch / typical:.1f} images/s" if seconds[1:] else "",
        f"peak memory       {found['peak_bytes'] / 2**30:.2f} GiB",
    ]
    if "rnn_seconds" in found:
        share = found["rnn_seconds"] / typical
        lines.append(
            f"recurrent layer   {found['rnn_seconds']:.4f} s forward and backward, {share:.1%} of that"
        )
    return "\n".join(line for line in lines if line)


def parse(argv: list[str] | None) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="benchmarks/full_size.py", description=__doc__, formatter_class=formatter
    )
    add = parser.add_argument
    add("--net", choices=("crnn", "alexnet"), default="crnn")
    add("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    add("--batch", type=int, default=256)
    add("--iterations", type=int, help="default 1 on the CPU, 50 on a GPU")
    add("--out", type=Path, default=machine.RESULTS, metavar="FOLDER", help=machine.RESULTS_HELP)
    arguments = parser.parse_args(argv)
    arguments.iterations = arguments.iterations or (50 if arguments.device == "cuda" else 1)
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    result = {"schema": run.SCHEMA, "setup": machine.setup(arguments.device)}
    result["before"] = machine.state(arguments.device)
    result |= measure(arguments, sys.stderr.isatty())
    result["after"] = machine.state(arguments.device)
    print(", ".join(f"{k} {v}" for k, v in {**result["setup"], **result["before"]}.items()))
    print(text(result, arguments.device))
    machine.write("full-size", result, arguments.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        sys.exit(f"benchmarks/full_size.py: {error}")
