"""The numbers of a run as JSONL and CSV, kept whole over stops and resumes."""

import csv
import itertools
import json
import math
import re
import shutil
from pathlib import Path

from crnn.proto.blobs import naming, write_bytes
from crnn.proto.form import has_form
from crnn.solver.events import Displayed, Event, Output, Scored, Started
from crnn.solver.snapshot import iteration_of, states

NUMBER = int | float | None  # null where it is not finite
ROW = {
    "phase": str,
    "iter": int,
    "seconds": int | float,
    "lr": NUMBER,
    "loss": NUMBER,
    "images_per_second": NUMBER,
    "net": int,
    "outputs": dict,
}


class Rows:
    """A listener: <prefix>.jsonl has every row, <prefix>_train.csv and _test.csv the columns of parse_log.py.

    Further test nets write <prefix>_test1.csv and so on. A resumed run keeps the rows before its first
    iteration; those after it, which it writes again, go. A run from iteration 0, or from a snapshot that
    later ones followed, sets the older files aside as <name>.1, <name>.2, ...
    """

    def __init__(self, prefix: str):
        self.prefix, self.lr, self.offset = prefix, math.nan, 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._start(event.iter)
            case Displayed():
                self.lr = float(f"{event.lr:g}")  # as logged, without float32's tail
                self._write("train", event, 0, event.images_per_second)
            case Scored():
                self._write("test", event, event.net, None)

    def _start(self, first: int) -> None:
        log = Path(f"{self.prefix}.jsonl")
        ours = re.compile(re.escape(log.stem) + r"_(train|test\d*)\.csv")
        tables = sorted(path for path in log.parent.iterdir() if ours.fullmatch(path.name))
        if first == 0:
            for path in [log, *tables]:
                _set_aside(path)
            return
        newest = states(self.prefix)[-1:]
        aside = any(iteration_of(path) > first for path in newest)  # rows that another snapshot goes with
        if log.exists():
            kept = [row for row in read_rows(log) if row["iter"] < first]
            _replace(log, [json.dumps(row) for row in kept], aside)
            self.offset = max((row["seconds"] for row in kept), default=0.0)
            self.lr = next((row["lr"] for row in reversed(kept) if row["lr"] is not None), math.nan)
        for path in tables:
            head, rows = _whole_lines(path)[:1], _whole_lines(path)[1:]
            kept = [row for i, row in enumerate(rows, 2) if _iteration(path, i, row) < first]
            _replace(path, head + kept, aside)

    def _write(self, phase: str, event: Displayed | Scored, net: int, speed: float | None) -> None:
        seconds, values = self.offset + event.seconds, _by_name(event.outputs)
        row = {
            "phase": phase,
            "iter": event.iter,
            "seconds": seconds,
            "lr": _finite(self.lr),
            "loss": _finite(event.loss),
            "images_per_second": speed,
            "net": net,
            "outputs": {name: _one_or_all([_finite(x) for x in v]) for name, v in values.items()},
        }
        path = f"{self.prefix}.jsonl"
        with naming(path), open(path, "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        columns = {"NumIters": float(event.iter), "Seconds": seconds, "LearningRate": self.lr}
        for name, v in values.items():
            columns |= {f"{name}[{i}]": x for i, x in enumerate(v)} if v[1:] else {name: v[0]}
        path = f"{self.prefix}_{phase}{net or ''}.csv"
        with naming(path), open(path, "a", newline="", encoding="utf-8") as table:
            writer = csv.writer(table, lineterminator="\n")
            if table.tell() == 0:
                writer.writerow(columns)
            writer.writerow(columns.values())


def read_rows(path) -> list[dict]:
    """The rows of a .jsonl, without a last one that was not written to its end.

    Raises ValueError, naming the line, where one is not what `Rows` writes.
    """
    rows = []
    for number, line in enumerate(_whole_lines(Path(path)), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not has_form(row, ROW):
            raise _damaged(path, number)
        rows.append(row)
    return rows


def _iteration(path: Path, number: int, row: str) -> float:
    try:
        return float(row.split(",", 1)[0])
    except ValueError:
        raise _damaged(path, number) from None


def _damaged(path, number: int) -> ValueError:
    return ValueError(f"{path}: line {number} is no row of a training log; remove it, or move the file away")


def _by_name(outputs: tuple[Output, ...]) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for output in outputs:
        values.setdefault(output.name, []).append(output.value)
    return values


def _one_or_all(values: list):
    return values if len(values) > 1 else values[0]


def _finite(value: float | None) -> float | None:
    """JSON has no nan and no inf: null."""
    return value if value is not None and math.isfinite(value) else None


def _whole_lines(path: Path) -> list[str]:
    """The lines that were written to their end: a killed run may leave half a last one."""
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def _replace(path: Path, lines: list[str], aside: bool) -> None:
    """By these lines; where some go, all that was there is kept `aside`."""
    text = "".join(line + "\n" for line in lines).encode()
    if aside and len(text) < path.stat().st_size:
        shutil.copy2(path, _free(path))
    write_bytes(path, text)


def _set_aside(path: Path) -> None:
    if path.exists():
        path.rename(_free(path))


def _free(path: Path) -> Path:
    """The first of <name>.1, <name>.2, ... that is not there."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())
