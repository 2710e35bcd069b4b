"""The faults by name, what became of each injection, and the table of all."""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import NamedTuple

# How an injection ended.
DETECTED = "detected"  # survived as promised, or refused in one sentence
HARMLESS = "harmless"  # it changed nothing that anybody reads
SILENT = "silent"  # anything else: wrong results, a crash, a hang, a traceback


class Result(NamedTuple):
    """lost: iterations of training that had to be done again.    note: what was wrong, of a silent one."""

    outcome: str
    lost: int | None = None
    note: str = ""


class Trial(NamedTuple):
    """What a fault is given: how often to strike, draws, and an empty folder."""

    times: int
    rng: Random
    folder: Path


class Fault(NamedTuple):
    name: str
    times: int  # of a long run
    inject: Callable[[Trial], Iterator[Result]]


FAULTS: dict[str, Fault] = {}


def fault(name: str, times: int):
    """Registers what injects a fault, `times` times in a long run, under its function's name."""

    def register(inject):
        key = inject.__name__
        FAULTS[key] = Fault(name, times, inject)
        return inject

    return register


def judged(good: bool, note: str = "", lost: int | None = None) -> Result:
    return Result(DETECTED, lost) if good else Result(SILENT, lost, note)


@dataclass
class Row:
    """The results of one fault."""

    name: str
    detected: int = 0
    harmless: int = 0
    silent: int = 0
    lost: list[int] = field(default_factory=list)
    seconds: float = 0
    notes: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        setattr(self, result.outcome, getattr(self, result.outcome) + 1)
        if result.lost is not None:
            self.lost.append(result.lost)
        if result.note:
            self.notes.append(result.note)

    @property
    def injected(self) -> int:
        return self.detected + self.harmless + self.silent

    def __str__(self) -> str:
        lost = f"{max(self.lost)} ({statistics.median(self.lost):g})" if self.lost else ""
        counts = f"{self.injected:,} | {self.detected:,} | {self.harmless:,} | {self.silent}"
        return f"| {self.name} | {counts} | {lost} | {self.seconds:.0f} |"

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, path: Path) -> "Row":
        return cls(**json.loads(path.read_text()))


HEAD = """\
| fault | injected | detected | harmless | silent | iterations lost: most (median) | seconds |
|---|---|---|---|---|---|---|"""


def table(rows: list[Row]) -> str:
    injected, detected, harmless, silent = (
        sum(getattr(row, name) for row in rows) for name in ("injected", "detected", "harmless", "silent")
    )
    seconds = sum(row.seconds for row in rows)
    total = f"| all | {injected:,} | {detected:,} | {harmless:,} | {silent} | | {seconds:.0f} |"
    return "\n".join([HEAD, *map(str, rows), total])
