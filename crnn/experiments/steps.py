"""A trained and tested net as crnn commands, each with the files by which one sees that it is done."""

import shlex
from pathlib import Path
from typing import NamedTuple

from crnn.proto.text import dump
from crnn.proto.upgrade import read_solver

CURVE = "anytime.json"
NET, SOLVER = "train_val.prototxt", "solver.prototxt"  # of a net's folder


class Step(NamedTuple):
    """A command and what it makes; it is done if all of that is there and not older than `after`."""

    name: str
    command: list[str]
    makes: list[Path]
    after: tuple[Path, ...] = ()

    @property
    def line(self) -> str:
        return f"crnn {shlex.join(self.command)}"

    @property
    def done(self) -> bool:
        if not all(path.exists() for path in self.makes):
            return False
        oldest = min(path.stat().st_mtime for path in self.makes)
        return all(path.stat().st_mtime <= oldest for path in self.after)


def training(name: str, folder: Path, gpu: str | None = None) -> Step:
    """Trains by the folder's solver; from the newest whole snapshot, if it is unfinished and there is one."""
    command, weights = ["train", "--solver", str(folder / SOLVER)], weights_of(folder)
    states = snapshots(folder)
    if states and not weights.exists():
        command += ["--snapshot", str(states[-1])]
    return Step(name, [*command, *on(gpu)], [weights])


def testing(name: str, folder: Path, views: int, weights: list[Path], gpu: str | None = None) -> Step:
    """Scores the folder's net on every record of its TEST Data layer."""
    scores = scores_of(folder, views)
    command = ["test", "--model", str(folder / NET), "--weights", ",".join(map(str, weights))]
    command += ["--all", "--views", str(views), "--save", str(scores)]
    return Step(name, [*command, *on(gpu)], [scores], tuple(weights))


def curve(folder: Path, weights: list[Path], gpu: str | None = None) -> Step:
    """Measures accuracy against cost: every answer that the folder's net can give."""
    command = ["anytime", "--model", str(folder / NET), "--weights", ",".join(map(str, weights))]
    command += ["--save", str(folder / CURVE)]
    return Step("accuracy against cost", [*command, *on(gpu)], [folder / CURVE])


def snapshots(folder: Path) -> list[Path]:
    """The .solverstate files of a folder whose snapshots are whole, the oldest first."""
    states = {int(path.stem.rpartition("_")[2]): path for path in folder.glob("*_iter_*.solverstate")}
    return [states[i] for i in sorted(states) if states[i].with_suffix(".resume.json").exists()]


def weights_of(folder: Path) -> Path:
    """The .caffemodel that the folder's solver ends with, wherever the folder lay when it was made."""
    solver = read_solver(folder / SOLVER).message
    return folder / f"{Path(solver.snapshot_prefix).name}_iter_{solver.max_iter}.caffemodel"


def scores_of(folder: Path, views: int) -> Path:
    """What `crnn test --save` leaves in the folder."""
    return folder / f"views_{views}.npz"


def in_line(message) -> str:
    """A message's text as one word of a command."""
    return " ".join(dump(message).split())


def on(gpu: str | None) -> list[str]:
    return [] if gpu is None else ["--gpu", gpu]


def free_name(path: Path) -> Path:
    """The first of PATH.1, PATH.2, ... that is not there."""
    return next(aside for i in range(1, 10_000) if not (aside := Path(f"{path}.{i}")).exists())
