"""demo: the main job on real images, Fashion-MNIST to LMDB to two trained nets to report.html.

Trains C-RNN and its twin, which lacks only the SpatialRNN layer, tests both with 1 and 10 views and writes
OUT/report.html. Every step is one crnn command, shown before it runs. A step that is done is not done again,
and a training that was stopped or killed goes on from its last snapshot.
"""

import argparse
import importlib
import json
import os
import platform
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from crnn import prototxt_like
from crnn.experiments import attribution, manifest, results
from crnn.experiments.evaluate import Evaluation
from crnn.experiments.steps import Step, free_name, scores_of, testing, training, weights_of
from crnn.net.net import Net
from crnn.proto.blobs import write_bytes
from crnn.proto.form import has_form
from crnn.proto.upgrade import read_net, read_solver
from crnn.report import Report, write
from crnn.report.page import duration, interval, percent, points
from crnn.solver.rows import read_rows
from crnn.tools import doctor, flags

SYSTEM = Path(prototxt_like.__file__).parent / "demo"
PLACE = "runs/demo"  # where the prototxts of SYSTEM say that everything is
NETS = {
    "crnn": ("C-RNN", "Convolutions, then a four-direction SpatialRNN over the 6 × 6 map."),
    "plain": ("plain", "The same net without the SpatialRNN layer, trained for as many iterations."),
}
WAYS = {1: "1 view", 10: "10 views"}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn demo",
        description=__doc__.split(": ", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path(PLACE), help=f"folder to work in (default {PLACE})")
    parser.add_argument("--source", metavar="DIR", help="folder with the four files of Fashion-MNIST")
    parser.add_argument("--iterations", type=int, metavar="N", help="train so many (default: the solvers')")
    return parser


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(flags.normalise(argv))
    out = arguments.out
    if arguments.iterations is not None and arguments.iterations < 1:
        raise ValueError(f"--iterations must be at least 1, got {arguments.iterations}")
    for net in NETS:
        place(net, out, arguments.iterations)
    times = Times(out / "times.json")
    for step in steps(out, arguments.source):
        if status := run(step, times):
            print(f"stopped; `crnn {shlex.join(['demo', *argv])}` goes on from here")
            return status
    commands = [step.line for step in steps(out, arguments.source)]
    report = make_report(out, commands, times.seconds)
    write(out / "report.html", report)
    print(f"\n{table(report)}\nreport: {out / 'report.html'}")
    return 0


def run(step: Step, times: "Times") -> int:
    """Does a step unless it is done; its exit code."""
    if step.done:
        print(f"{step.name}: done before", flush=True)
        return 0
    print(f"\n{step.name}\n$ {step.line}", flush=True)
    started = time.monotonic()
    status = importlib.import_module(f"crnn.tools.{step.command[0]}").main(step.command[1:])
    if not status:
        times.add(step.name, time.monotonic() - started)
    return status


def steps(out: Path, source: str | None) -> Iterator[Step]:
    """The steps in order. Each is made when it is its turn, as it depends on what the others left."""
    train, test, mean = out / "train_lmdb", out / "test_lmdb", out / "mean.binaryproto"
    given = ["--source", source] if source else []
    convert = ["data", "convert", "fashion-mnist", str(out), "--keep", *given]
    yield Step("convert the images", convert, [train, test])
    yield Step("mean image", ["data", "mean", str(train), str(mean)], [mean])
    for net in NETS:
        yield training(f"train {net}", out / net)
    for net in NETS:
        for views, way in WAYS.items():
            yield testing(f"test {net}, {way}", out / net, views, [weights_of(out / net)])


def place(net: str, out: Path, iterations: int | None) -> None:
    """Writes the net's prototxts to OUT/net, in terms of OUT.

    A folder that was trained by other texts is kept as OUT/net.1, OUT/net.2, ...
    """
    folder = out / net
    texts = {name: adapted(name, net, out, iterations) for name in ("train_val.prototxt", "solver.prototxt")}
    if folder.exists():
        paths = {folder / name: text for name, text in texts.items()}
        if all(path.exists() and path.read_text() == text for path, text in paths.items()):
            return
        aside = free_name(folder)
        folder.rename(aside)
        print(f"{folder} was made with other settings: it is now {aside}")
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    read_net(folder / "train_val.prototxt")  # a folder's name that breaks the text is found now


def adapted(name: str, net: str, out: Path, iterations: int | None) -> str:
    """A prototxt of SYSTEM with OUT's paths and, in the solver, another number of iterations."""
    text = (SYSTEM / net / name).read_text()
    where = str(out).replace("\\", "\\\\").replace('"', '\\"')
    text = text.replace(f'"{PLACE}/', f'"{where}/')
    text = text.replace(f'"prototxt_like/demo/{net}/', f'"{where}/{net}/')
    if iterations is None or name != "solver.prototxt":
        return text

    def shorten(match: re.Match) -> str:
        field, value = match.groups()
        return f"{field}: {iterations if field == 'max_iter' else min(int(value), iterations)}"

    return re.sub(r"\b(max_iter|test_interval|display|snapshot): (\d+)", shorten, text)


class Times:
    """How long each step took, kept in a file for later runs of the demo."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        except (ValueError, RecursionError):
            self.seconds = None
        if not has_form(self.seconds, {str: int | float}):
            raise ValueError(f"{path} is damaged; remove it, and the report says nothing of these times")

    def add(self, step: str, seconds: float) -> None:
        self.seconds[step] = seconds
        write_bytes(self.path, json.dumps(self.seconds, indent=1).encode())


def make_report(out: Path, commands: list[str], times: dict[str, float]) -> Report:
    nets, scores, sights, times = [], [], [], dict(times)
    classes = (out / "labels.txt").read_text().splitlines()
    for folder, (name, about) in NETS.items():
        path = out / folder / "solver.prototxt"
        solver = read_solver(path).message
        rows = read_rows(f"{solver.snapshot_prefix}.jsonl")
        times[f"train {folder}"] = max(row["seconds"] for row in rows)  # all parts of an interrupted training
        scores.append({way: Evaluation.load(scores_of(out / folder, views)) for views, way in WAYS.items()})
        net = Net(solver.net, phase="TEST", weights=weights_of(out / folder))
        if attribution.layers(net):
            sights += results.examples(net, scores[-1][WAYS[1]], classes)
        nets.append(results.net_result(name, about, net, scores[-1], rows, path.read_text()))
        speed = np.median(nets[-1].images_per_second.values)
        nets[-1].about += f" Trained in {duration(times[f'train {folder}'])}, {speed:,.0f} images/s."
    names, (first, second) = [net.name for net in nets], scores
    return Report(
        title="C-RNN and its twin without recurrence on Fashion-MNIST",
        summary=f"Top-1 accuracy on {nets[0].confusion.sum():,} test images that were not trained on.",
        classes=classes,
        nets=nets,
        differences=[results.compared(way, names, first[way], second[way]) for way in WAYS.values()],
        sights=sights,
        setup=setup(),
        commands=commands,
        times=times,
    )


def setup() -> dict[str, str]:
    """What the figures depend on besides the prototxts."""
    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    return {
        "data": "Fashion-MNIST (Zalando, MIT licence): 60,000 images to train, 10,000 to test, 28 × 28",
        "machine": f"{manifest.processor()}; cores: {cores}, torch's threads: {threads}",
        "system": platform.platform(),
        "versions": manifest.versions(),
        "backend": doctor.active(),
    }


def table(report: Report) -> str:
    """The figures as lines for the terminal."""
    ways = list(WAYS.values())
    lines = [f"{'top-1 accuracy':<24}" + "".join(f"{way:>12}" for way in ways) + f"{'training':>16}"]
    for folder, net in zip(NETS, report.nets, strict=True):
        shares = "".join(f"{percent(net.accuracy[way]):>12}" for way in ways)
        lines.append(f"  {net.name:<22}{shares}{duration(report.times[f'train {folder}']):>16}")
    differences = "".join(f"{points(d.value):>10}  " for d in report.differences)
    lines.append(f"  {'difference, points':<22}{differences}")
    last = report.differences[-1]
    lines.append(f"  95 % interval with {last.way}: {interval(last)} points (paired)")
    return "\n".join(lines)
