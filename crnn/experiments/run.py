"""Runs jobs, a few at a time, each as a chain of crnn commands in processes of their own."""

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crnn.experiments.jobs import Job
from crnn.experiments.steps import Step, weights_of
from crnn.solver.signals import Signals

POLL = 0.2  # seconds
PRUNE = 30.0  # seconds between looks for old snapshots


@dataclass
class Places:
    """Where jobs run: on `gpus`, one each, or `parallel` at a time on the CPU, with `threads` each."""

    parallel: int
    threads: int
    gpus: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str | None]:
        return iter(self.gpus or [None] * self.parallel)


@dataclass
class Outcome:
    """stopped_by: the signal that ended the run early.    failed, busy (left to others): job -> why."""

    stopped_by: int | None = None
    failed: dict[str, str] = field(default_factory=dict)
    busy: dict[str, str] = field(default_factory=dict)


class Failed(Exception):
    """A command of a job ended badly; the text says which, and its last words."""


class Process:
    """A crnn command whose output goes to the end of a file.

    It gets a session of its own, so that a Ctrl-C meant for the run reaches it once, from us. The file
    `lock` stays locked as long as it lives, should we be killed.
    """

    def __init__(self, step: Step, log: Path, threads: int, lock: int):
        self.step, self.log = step, log
        count = str(threads)
        environment = {**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
        with open(log, "ab") as output:
            output.write(f"$ {step.line}\n".encode())
            output.flush()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "crnn", *step.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=(lock,),
            )

    def ended(self) -> bool:
        """Whether it is over. Raises Failed unless it did what it should."""
        status = self.process.poll()
        if status is None:
            return False
        if status or not self.step.done:
            said = last_line(self.log)
            raise Failed(f"`{self.step.line}` ended with status {status}: {said} (see {self.log})")
        return True

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Chain:
    """A job under way. Raises BlockingIOError if another process has it."""

    def __init__(self, job: Job, gpu: str | None, threads: int):
        self.job, self.gpu, self.threads = job, gpu, threads
        self.lock = locked(job.folder.with_name(f"{job.folder.name}.lock"))
        self.steps = job.steps(gpu)
        self.process: Process | None = None
        self.started = self.pruned = time.monotonic()

    def over(self) -> bool:
        """Goes on with the next command where one has ended; whether all are done. Raises Failed."""
        if self.process and not self.process.ended():
            self._prune()
            return False
        for step in self.steps:
            if not step.done:
                self.process = Process(step, self.job.folder / "log.txt", self.threads, self.lock)
                return False
        self.job.prune(1)
        return True

    def _prune(self) -> None:
        if time.monotonic() - self.pruned > PRUNE:
            self.job.prune()
            self.pruned = time.monotonic()

    def close(self) -> None:
        os.close(self.lock)


def run(
    jobs: Sequence[Job], places: Places, begin: Callable[[Job, str | None], None], tell: Callable
) -> Outcome:
    """Does what is not done of `jobs`.

    A job that fails keeps only those that need it from being tried. `begin(job, gpu)` is called before a
    job's first command; `tell(event, job, chains)` with event "start", "done", "fail" or "tick".
    SIGINT and SIGTERM stop every training after its current iteration, with a snapshot; a second one kills.
    """
    outcome, waiting = Outcome(), []
    for job in jobs:  # what others start from is before them
        if not job.done or job.source in waiting:
            waiting.append(job)
    free, chains = list(places), []
    with Signals("stop", "none") as signals:
        try:
            while chains or (waiting and not signals.stopped_by):
                while free and not signals.stopped_by and (job := _next(waiting, chains)):
                    chain = _start(job, free[0], places.threads, begin, outcome)
                    if chain:
                        chains.append(chain)
                        free.pop(0)
                        tell("start", chain.job, chains)
                for chain in list(chains):
                    event = _event(chain, outcome, signals)
                    if event:
                        chain.close()
                        chains.remove(chain)
                        free.append(chain.gpu)
                        tell(event, chain.job, chains)
                if signals.take() == "stop":
                    for chain in chains:
                        if chain.process:
                            chain.process.send(signal.SIGINT)
                tell("tick", None, chains)
                time.sleep(POLL)
        finally:
            for chain in chains:  # only after a second Ctrl-C, or a mistake of ours
                if chain.process:
                    chain.process.send(signal.SIGKILL)
    outcome.stopped_by = signals.stopped_by
    return outcome


def _next(waiting: list[Job], chains: list[Chain]) -> Job | None:
    """Takes the first job out that starts from none which is still to be done."""
    undone = [*waiting, *(chain.job for chain in chains)]
    for job in waiting:
        if job.source not in undone:
            waiting.remove(job)
            return job
    return None


def _start(job: Job, gpu: str | None, threads: int, begin, outcome: Outcome) -> Chain | None:
    if str(job.source) in outcome.busy and not job.source.done:
        outcome.busy[str(job)] = f"it needs {job.source}, which another process is at"
        return None
    if str(job.source) in outcome.failed:
        outcome.failed[str(job)] = f"it needs {job.source}, which failed"
        return None
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        chain = Chain(job, gpu, threads)
    except BlockingIOError:
        outcome.busy[str(job)] = "another process is at it"
        return None
    try:
        begin(job, gpu)
    except (ValueError, OSError) as error:
        chain.close()
        outcome.failed[str(job)] = str(error)
        return None
    return chain


def _event(chain: Chain, outcome: Outcome, signals: Signals) -> str | None:
    """What became of a chain: "done", "fail", "stop", or None as long as it goes on."""
    try:
        if signals.stopped_by and (chain.process is None or chain.process.process.poll() is not None):
            return "stop"
        return "done" if chain.over() else None
    except Failed as error:
        outcome.failed[str(chain.job)] = str(error)
        return "fail"


def locked(path: Path) -> int:
    """A descriptor that holds the file's lock. Raises BlockingIOError if another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    return descriptor


def last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def iterations(job: Job) -> int:
    """How far a job's training is, by its last row."""
    if not job.trained or not job.folder.exists():
        return 0
    if weights_of(job.folder).exists():
        return job.solver().max_iter
    table = job.folder / f"{job.name}_train.csv"
    rows = table.read_text().splitlines()[1:] if table.exists() else []
    return int(float(rows[-1].partition(",")[0])) if rows else 0
