"""Trainings that are killed, stopped, or whose disk fails: they go on exactly from the last snapshot."""

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from itertools import count, cycle, product
from pathlib import Path

from . import processes, training
from .processes import Child, Ended
from .table import HARMLESS, Result, Trial, fault, judged
from .training import FORMS, LENGTH, OUT, unbroken

SLOWEST = 0.1  # seconds after an iteration's line at which a random strike comes at the latest
PER_ITERATION = 40  # calls that change files, about


def iterations_done(ended: Ended, before: int) -> int:
    """How many iterations were done when it ended, at most: the line comes before the update."""
    shown = re.findall(r"Iteration (\d+), lr = ", ended.said)
    return int(shown[-1]) + 1 if shown else before


def after(folder: Path, form: str, done: int) -> Result:
    """Whether a struck training goes on from its last snapshot as if nothing had been."""
    want = unbroken(folder.parent, form)
    if problem := want.wrong(folder):
        return judged(False, problem)
    resumed, length = training.newest(folder), min(done + 2, LENGTH)
    ended = training.train(folder, form, length)
    if ended.code:
        return judged(False, f"it does not go on: {ended.said[-300:]}")
    if resumed and f"Restoring previous solver status from {OUT}/run_iter_{resumed}." not in ended.said:
        return judged(False, f"it did not go on from iteration {resumed}")
    problem = want.wrong(folder, length)
    if not problem and training.left_over(folder):
        problem = f"left over: {training.left_over(folder)}"
    lost = max(done - resumed, 0)
    if not problem and lost > 1:
        problem = f"{lost} iterations lost, with a snapshot after each"
    return judged(not problem, problem, lost)


def struck(trial: Trial, strike) -> Iterator[Result]:
    """Trainings of all forms, struck again and again on their way: strike(folder, form, before) -> Ended."""
    for form in cycle(FORMS):
        folder = training.prepare(trial.folder / "struck")
        for _ in range(LENGTH):
            before = training.newest(folder)
            if before > LENGTH - 4:
                break
            ended = strike(folder, form, before)
            yield after(folder, form, iterations_done(ended, before))


@fault("kill -9 at a call that writes, syncs or renames, training", 100)
def kill_in_training(trial: Trial) -> Iterator[Result]:
    def strike(folder: Path, form: str, before: int) -> Ended:
        return training.train(folder, form, LENGTH, trial.rng.randint(1, 3 * PER_ITERATION))

    return struck(trial, strike)


@fault("kill -9 at a random moment, training", 100)
def kill_at_random(trial: Trial) -> Iterator[Result]:
    def strike(folder: Path, form: str, before: int) -> Ended:
        child = Child(folder, training.training(folder, form, LENGTH))
        child.waits_for(f"Iteration {before + trial.rng.randint(0, 1)}, lr".encode())
        time.sleep(trial.rng.uniform(0, SLOWEST))
        child.send(signal.SIGKILL)
        return child.wait()

    return struck(trial, strike)


@fault("SIGINT, SIGTERM, or SIGINT twice, at a random moment, training", 60)
def stop_at_random(trial: Trial) -> Iterator[Result]:
    kinds = cycle([(signal.SIGINT,), (signal.SIGTERM,), (signal.SIGINT, signal.SIGINT)])
    for number in count():
        form, numbers = list(FORMS)[number % len(FORMS)], next(kinds)
        folder = training.prepare(trial.folder / "stopped")
        child = Child(folder, training.training(folder, form, LENGTH))
        child.waits_for(f"Iteration {trial.rng.randint(0, 9)}, lr".encode())
        for signal_number in numbers:
            time.sleep(trial.rng.uniform(0, SLOWEST))
            child.send(signal_number)
        ended = child.wait()
        result = after(
            folder, form, training.newest(folder) if len(numbers) == 1 else iterations_done(ended, 0)
        )
        if len(numbers) == 1 and ended.code not in (128 + numbers[0], 0):
            result = judged(False, f"exit code {ended.code} after signal {numbers[0]}")
        yield result


@fault("ENOSPC, EDQUOT, EIO, EROFS at each call that changes files, training", 200)
def disk_in_training(trial: Trial) -> Iterator[Result]:
    """Two iterations are there; the disk fails in the next two."""
    plans = []
    for form in FORMS:
        begun = training.prepare(trial.folder / form)
        assert training.train(begun, form, 2).code == 0
        work = _copy(begun, trial.folder / "counted")
        calls = training.train(work, form, 4).calls
        plans += [(form, at, error) for at, error in product(range(1, calls + 1), processes.ERRORS)]
    trial.rng.shuffle(plans)
    for form, at, error in plans:
        folder = _copy(trial.folder / form, trial.folder / "failing")
        ended = training.train(folder, form, 4, at, error)
        yield _failed(folder, form, ended, f"{form}, call {at}, {os.strerror(error)}")


def _failed(folder: Path, form: str, ended: Ended, what: str) -> Result:
    want = unbroken(folder.parent, form)
    if ended.code == 0:
        problem = want.wrong(folder, 4)
        return judged(False, f"{what}: {problem}") if problem else Result(HARMLESS)
    if not ended.refused:
        return judged(False, f"{what}: exit code {ended.code}, {ended.said[-1500:]}")
    if OUT not in ended.sentence:
        return judged(False, f"{what}: no path in {ended.sentence!r}")
    if training.newest(folder) < 2 or (problem := want.wrong(folder)):
        return judged(False, f"{what}: the snapshot before is lost or {problem}")
    if training.left_over(folder):
        return judged(False, f"{what}: left over: {training.left_over(folder)}")
    again = training.train(folder, form, 4)
    problem = want.wrong(folder, 4)
    return judged(again.code == 0 and not problem, f"{what}: {problem} {again.said[-300:]}")


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target)
