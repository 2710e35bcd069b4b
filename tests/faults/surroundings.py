"""What goes on around a training in its own process: a thread that dies, odd paths and environments."""

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from crnn.data.loader import _Worker

from . import training
from .processes import Ended, run
from .table import Result, Trial, fault, judged


def train(folder: Path, length: int, change: Callable[[], None]) -> Ended:
    """Trains in a process that change() has been called in."""
    work = training.training(folder, "binary", length)

    def changed() -> int:
        change()
        return work()

    return run(folder, changed)


def raise_in_reader(error: BaseException, at: int) -> None:
    """The thread that reads ahead meets the error at its at-th batch."""
    whole = _Worker._run

    def until(batches):
        yield from islice(batches, at)
        raise error

    _Worker._run = lambda worker, batches: whole(worker, until(batches))


def start_no_thread() -> None:
    def start(thread):
        raise RuntimeError("can't start new thread")

    threading.Thread.start = start


@fault("the thread that reads ahead dies, at a random batch, or cannot start", 50)
def reader_death(trial: Trial) -> Iterator[Result]:
    kinds = [ValueError("a bad record"), OSError(5, "Input/output error"), MemoryError(), SystemExit(3), None]
    for number in range(trial.times):
        folder = training.prepare(trial.folder / "reader")
        error = kinds[number % len(kinds)]
        change = partial(raise_in_reader, error, trial.rng.randint(0, 20)) if error else start_no_thread
        ended = train(folder, training.LENGTH, change)
        good = ended.code != 0 and (ended.refused or isinstance(error, SystemExit))
        yield judged(good, f"{error!r}: exit code {ended.code}: {ended.said[-600:]}")


SURROUNDINGS = {  # the folder's name, and what is changed in the process
    "blanks, quotes and other alphabets in the path": ("ж 'é' \"q\" 漢", lambda: None),
    "no standard output": ("out1", partial(os.close, 1)),
    "another time zone and language": (
        "tz",
        partial(os.environ.update, TZ="Asia/Kathmandu", LC_ALL="tr_TR.UTF-8"),
    ),
    "no home": ("home", partial(os.environ.update, HOME="/nonexistent", TMPDIR="/nonexistent")),
}


@fault("odd surroundings: path, locale, no home, no standard output; training", len(SURROUNDINGS))
def surroundings(trial: Trial) -> Iterator[Result]:
    unbroken = training.unbroken(trial.folder, "binary")
    for what, (name, change) in islice(SURROUNDINGS.items(), trial.times):
        folder = training.prepare(trial.folder / name)
        ended = train(folder, 3, change)
        problem = ended.said[-400:] if ended.code else unbroken.wrong(folder, 3)
        yield judged(not problem, f"{what}: {problem}")
