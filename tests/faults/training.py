"""A small real training that faults strike, and what an unbroken run of it writes."""

import json
import re
import shutil
from functools import cache
from pathlib import Path

from crnn.testing import golden

from .processes import Ended, Fault, crnn, run

LENGTH = 24  # iterations of the unbroken run
SET_UP = ("logged_net.prototxt", "mean.binaryproto", "raw_color_lmdb")
FORMS = {"binary": "", "HDF5": "snapshot_format: HDF5", "keeping two": "snapshot_keep: 2"}
OUT = "out"


def prepare(folder: Path) -> Path:
    """A folder with net and data."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in SET_UP:
        source = golden(f"tools/{name}")
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    (folder / OUT).mkdir()
    return folder


def train(folder: Path, form: str, max_iter: int, fault: int = 0, error: int = 0) -> Ended:
    """Trains to max_iter from the latest snapshot, one after each iteration; the fault strikes that call."""
    return run(folder, training(folder, form, max_iter), Fault(folder / OUT, fault, error))


def training(folder: Path, form: str, max_iter: int):
    """The work of that training."""
    (folder / "solver.prototxt").write_text(
        f'net: "logged_net.prototxt" {FORMS[form]} random_seed: 1\n'
        'base_lr: 1e-5 momentum: 0.9 lr_policy: "fixed"\n'
        f'max_iter: {max_iter} snapshot: 1 snapshot_prefix: "{OUT}/run" display: 1 average_loss: 3\n'
        "solver_mode: CPU test_iter: 1 test_interval: 5\n"
    )
    return crnn("train", "-solver", "solver.prototxt", "-snapshot", "latest")


def files(folder: Path) -> dict[str, bytes]:
    """The files of all whole snapshots: those with a solverstate, which is written last."""
    stems = {path.name.partition(".")[0] for path in (folder / OUT).glob("run_iter_*.solverstate*")}
    return {
        path.name: path.read_bytes()
        for path in (folder / OUT).glob("run_iter_*")
        if path.name.partition(".")[0] in stems and not path.name.endswith(".tempfile")
    }


def newest(folder: Path) -> int:
    """The iteration of the newest whole snapshot, 0 without."""
    return max((iteration(name) for name in files(folder)), default=0)


def iteration(name: str) -> int:
    return int(re.match(r"run_iter_(\d+)\.", name)[1])


def rows(folder: Path) -> list[tuple]:
    """What the training logged, but for times: the last row wins where an iteration was done again."""
    kept = {}
    for line in (folder / OUT / "run.jsonl").read_text().splitlines():
        row = json.loads(line)
        kept[row["iter"], row["phase"]] = (row["loss"], row["lr"], str(row["outputs"]))
    return sorted(kept.items())


def left_over(folder: Path) -> list[str]:
    """Names of temporary files."""
    return sorted(path.name for path in (folder / OUT).iterdir() if path.suffix in (".part", ".tempfile"))


class Unbroken:
    """What a run that nothing struck left: all its snapshots and its log."""

    def __init__(self, folder: Path, form: str):
        prepare(folder)
        every = form.replace("keeping two", "binary")
        ended = train(folder, every, LENGTH)
        assert ended.code == 0, ended.said
        self.files, self.rows = files(folder), rows(folder)
        shutil.rmtree(folder)

    def wrong(self, folder: Path, length: int | None = None) -> str:
        """What the folder's snapshots and, of a run of that length, its log differ in; or nothing."""
        there = files(folder)
        for name, data in there.items():
            if data != self.files[name]:
                return f"{name} differs from the unbroken run's"
        if length is None:
            return ""
        if newest(folder) != length:
            return f"it ended at {newest(folder)}, not {length}"
        want = [row for row in self.rows if row[0][0] < length]
        got = [row for row in rows(folder) if row[0][0] < length]
        return "" if got == want else "its log differs from the unbroken run's"


@cache
def unbroken(folder: Path, form: str) -> Unbroken:
    return Unbroken(folder / "unbroken", form)
