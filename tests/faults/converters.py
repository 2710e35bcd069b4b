"""Converters that are killed or whose disk fails: given again, they make the unbroken run's records."""

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from functools import cache
from itertools import count, cycle, product
from pathlib import Path

from crnn.data import database_writer
from crnn.data.checksums import read_checksums
from crnn.data.databases import open_database
from crnn.data_tools.verify import verify
from crnn.testing import golden

from . import processes
from .processes import Child, Ended, Fault, crnn, run
from .table import HARMLESS, Result, Trial, fault, judged

DATABASE, OUT = "out/db", "out"
IMAGES, COMMIT = 120, 10  # images, and records a commit, so that there are many
IMAGESET = [
    "data",
    "convert",
    "imageset",
    "--shuffle",
    "--resize-width=24",
    "--resize-height=20",
    "--workers=2",
]
WRITERS = {
    "LMDB": [*IMAGESET, "images", "list.txt", DATABASE],
    "LevelDB": [*IMAGESET, "--backend=leveldb", "images", "list.txt", DATABASE],
    "label paths": ["data", "paths", "whole_lmdb", "tree.txt", DATABASE],
    "a part": ["data", "part", "whole_lmdb", DATABASE, "0.1", "0.9"],
}
SLOWEST = 0.4  # seconds after its start at which a random kill comes at the latest
TREE = "thing\n  a\n    n0 zero\n    n1 one\n  b\n    n2 two\n"


@cache
def inputs(folder: Path) -> Path:
    """Images, one of them damaged, their list, and a database of them with a label tree."""
    database_writer.COMMIT_RECORDS = COMMIT
    source = folder / "inputs"
    (source / "images").mkdir(parents=True)
    photos = sorted(golden("tools/images").rglob("*.jpg"))
    for i in range(IMAGES):
        data = photos[i % len(photos)].read_bytes()
        (source / f"images/{i:03d}.jpg").write_bytes(data[:50] if i == 7 else data)
    (source / "list.txt").write_text("".join(f"{i:03d}.jpg {i % 3}\n" for i in range(IMAGES)))
    (source / "tree.txt").write_text(TREE)
    made = run(source, crnn(*IMAGESET, "images", "list.txt", "whole_lmdb"))
    assert made.code == 0, made.said
    return source


def fresh(trial: Trial) -> Path:
    """A folder with the inputs and nothing written."""
    folder, source = trial.folder / "work", inputs(trial.folder)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / OUT).mkdir(parents=True)
    for path in source.iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def convert(folder: Path, writer: str, at: int = 0, error: int = 0) -> Ended:
    return run(folder, crnn(*WRITERS[writer]), Fault(folder / OUT, at, error))


def content(folder: Path) -> str:
    """A digest of records and checksums, and what `crnn data verify` says; made by a process of its own."""

    def work() -> int:
        sums = read_checksums(DATABASE)
        print(digest_of(open_database(DATABASE), sums), verify(DATABASE))
        return 0

    ended = run(folder, work)
    return ended.printed + ended.said


def digest_of(records, sums) -> str:
    digest = hashlib.sha256(b"none" if sums is None else sums.tobytes())
    for key, value in records.items():
        digest.update(b"%d %d " % (len(key), len(value)) + key + value)
    return digest.hexdigest()


class Plan:
    """What an unbroken run of a writer does: its records and how many calls it takes."""

    def __init__(self, trial: Trial, writer: str):
        folder = fresh(trial)
        ended = convert(folder, writer)
        assert ended.code == 0, ended.said
        self.writer, self.calls, self.content = writer, ended.calls, content(folder)
        assert self.content.endswith(" []\n"), self.content

    def after(self, folder: Path, what: str) -> Result:
        """Whether the same command makes the same records of what a struck one left."""
        if not (folder / DATABASE).exists():  # else it was struck when all was done
            again = convert(folder, self.writer)
            if again.code:
                return judged(False, f"{what}: it does not go on: {again.said[-600:]}")
        if content(folder) != self.content:
            return judged(False, f"{what}: the records differ from the unbroken run's: {content(folder)}")
        left = sorted({path.name for path in (folder / OUT).iterdir()} - {"db"})
        return judged(not left, f"{what}: left over: {left}")


def plans(trial: Trial) -> list[Plan]:
    inputs(trial.folder)
    return [Plan(trial, writer) for writer in WRITERS]


@fault("kill -9 at a call that writes, syncs or renames, converters", 100)
def kill_in_converter(trial: Trial) -> Iterator[Result]:
    for plan in cycle(plans(trial)):
        folder, at = fresh(trial), trial.rng.randint(1, plan.calls)
        if convert(folder, plan.writer, at).code == -signal.SIGKILL:
            yield plan.after(folder, f"{plan.writer}, call {at}")


@fault("kill -9 at a random moment, twice in each, converters", 100)
def kill_converter_at_random(trial: Trial) -> Iterator[Result]:
    known = plans(trial)
    for number in count():
        plan, folder = known[number % len(known)], fresh(trial)
        for _ in range(2):
            if not (folder / DATABASE).exists():
                child = Child(folder, crnn(*WRITERS[plan.writer]))
                time.sleep(trial.rng.uniform(0, SLOWEST))
                child.send(signal.SIGKILL)
                child.wait()
        yield plan.after(folder, plan.writer)


@fault("ENOSPC, EDQUOT, EIO, EROFS at each call that changes files, converters", 200)
def disk_in_converter(trial: Trial) -> Iterator[Result]:
    strikes = [
        (plan, at, error)
        for plan in plans(trial)
        for at, error in product(range(1, plan.calls + 1), processes.ERRORS)
    ]
    trial.rng.shuffle(strikes)
    for plan, at, error in strikes:
        folder, what = fresh(trial), f"{plan.writer}, call {at}, {os.strerror(error)}"
        ended = convert(folder, plan.writer, at, error)
        if ended.code == 0:
            result = plan.after(folder, what)
            yield Result(HARMLESS) if result.outcome == "detected" else result
        elif not ended.refused:
            yield judged(False, f"{what}: exit code {ended.code}, {ended.said[-1500:]}")
        elif OUT not in ended.sentence:
            yield judged(False, f"{what}: no path in {ended.sentence!r}")
        else:
            yield plan.after(folder, what)
