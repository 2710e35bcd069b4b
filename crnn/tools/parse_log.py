"""parse-log: turns a training log, Caffe's or ours, into CSVs as Caffe's parse_log.py does.

They are called <log>.train and <log>.test.
"""

import argparse
import csv
import io
import math
import os
import re
from datetime import datetime

from crnn.proto.blobs import write_bytes
from crnn.tools import flags

_LINE = re.compile(
    r"[IWEF](?P<year>\d{4})?(?P<day>\d{4}) (?P<time>\d\d:\d\d:\d\d\.\d+) +\d+ \S+\] (?P<text>.*)"
)
_ITERATION = re.compile(r"Iteration (\d+)")
_OUTPUT = re.compile(r"(Train|Test) net output #\d+: (\S+) = (\S+)")
_RATE = re.compile(r"lr = (\S+)")

Row = dict[str, float]

EPILOG = """\
Columns: NumIters, Seconds since `Solving`, LearningRate as last logged, then every output. The log may have
dates with or without a year (glog before and from 0.6), several runs one after the other, nan and -nan."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn parse-log",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", metavar="LOG")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help="for the CSVs (default .)")
    parser.add_argument("--delimiter", default=",", help="between columns (default a comma)")
    parser.add_argument("--verbose", action="store_true", help="name the files written")
    arguments = parser.parse_args(flags.normalise(argv, ("verbose",)))
    if len(arguments.delimiter) != 1:
        raise ValueError(f"--delimiter is one character, got {arguments.delimiter!r}")
    year = datetime.fromtimestamp(os.path.getctime(arguments.log)).year
    with open(arguments.log, encoding="utf-8", errors="replace") as log:
        try:
            tables = parse(log, year)
        except ValueError as error:
            raise ValueError(f"{arguments.log}: {error}") from None
    if not any(tables.values()):
        raise ValueError(
            f"{arguments.log} has no line `Train net output` or `Test net output` after `Solving`"
        )
    for phase, rows in tables.items():
        if rows:
            path = os.path.join(arguments.folder, f"{os.path.basename(arguments.log)}.{phase.lower()}")
            write_bytes(path, table(rows, arguments.delimiter).encode())
            if arguments.verbose:
                print(f"Wrote {path}")
    return 0


def parse(log, year: int) -> dict[str, list[Row]]:
    """The rows of "Train" and of "Test". year: of the log's start, where its dates have none."""
    rows: dict[str, list[Row]] = {"Train": [], "Test": []}
    iteration, rate, start, before = None, math.nan, None, None
    for number, line in enumerate(log, 1):
        match = _LINE.match(line)
        if not match:
            continue
        try:
            now = datetime.strptime(
                f"{match['year'] or year}{match['day']} {match['time']}", "%Y%m%d %H:%M:%S.%f"
            )
        except ValueError:
            said = f"{match['day']} {match['time']}" + ("" if match["year"] else f" of {year}")
            raise ValueError(f"line {number} has no date and time: {said}") from None
        if before and not match["year"] and now.month < before.month:  # the year ended
            year += 1
            now = now.replace(year=year)
        before, text = now, match["text"]
        if start is None:
            start = now if text.startswith("Solving") else None
            continue
        if found := _ITERATION.search(text):
            iteration = float(found[1])
        if found := _RATE.search(text):
            rate = float(found[1])
        if iteration is not None and (found := _OUTPUT.search(text)):
            phase, name, value = found.groups()
            of_phase = rows[phase]
            if not of_phase or of_phase[-1]["NumIters"] != iteration or name in of_phase[-1]:
                seconds = (now - start).total_seconds()
                of_phase.append({"NumIters": iteration, "Seconds": seconds, "LearningRate": rate})
            of_phase[-1][name] = float(value)
    for of_phase in rows.values():
        if len(of_phase) > 1:  # its rate was logged after it
            of_phase[0]["LearningRate"] = of_phase[1]["LearningRate"]
    return rows


def table(rows: list[Row], delimiter: str) -> str:
    """The rows under the names of all columns."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
