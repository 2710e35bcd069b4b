"""Random nets through crnn and the real Caffe, and nets that both must refuse: `make parity`.

python -m tests.parity [--nets 20] [--only LSTM] [--write tests/parity/README.md]
"""

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from itertools import chain
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from .both import ORACLE, Aborted, Oracle, compare, refused
from .files import cases
from .invalid import NETS
from .nets import CASES, case_of

#: tests/goldens/README.md: relative Frobenius error.
TOLERANCE = defaultdict(lambda: 2e-6, LRN=1e-5, BatchNorm=1e-5)


def worst(name: str, oracle: Oracle, nets: int) -> tuple[int, float, str]:
    """(nets run, the largest error, where) over random nets of one layer type."""
    found = []

    @settings(
        max_examples=nets,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case_of(name))
    def run(case):
        try:
            errors = compare(case, oracle)
        except Aborted:
            raise AssertionError(f"Caffe refuses this net:\n{case.prototxt}") from None
        where = max(errors, key=errors.get)
        found.append((errors[where], where))
        if errors[where] > TOLERANCE[name]:
            print(f"{name}: {where} {errors[where]:.1e}\n{case.prototxt}", file=sys.stderr)

    run()
    error, where = max(found)
    return len(found), error, where


def table(types, oracle: Oracle, nets: int):
    """A row a layer type, and how many types are beyond their tolerance, as they come."""
    known = set(oracle.ask()["types"].tolist())
    for name in types:
        if name not in known:
            yield f"| {name} | 0 | | | not in this Caffe |", 0, 0
            continue
        count, error, where = worst(name, oracle, nets)
        row = f"| {name} | {count} | {error:.1e} | {TOLERANCE[name]:.0e} | {where} |"
        yield row, count, error > TOLERANCE[name]


def files(oracle: Oracle):
    """Rows as `table`'s for the layers that read files: their values are to be the same."""
    found = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for name, case in cases(Path(folder)):
            errors = compare(case, oracle)
            where = max(errors, key=errors.get)
            found[name].append((errors[where], where))
    for name, errors in found.items():
        yield (
            f"| {name} | {len(errors)} | {max(errors)[0]:.1e} | 0 | {max(errors)[1]} |",
            len(errors),
            max(errors)[0] > 0,
        )


def write(path: Path, rows: list[str]) -> None:
    """Puts the rows in place of those below the table's line of dashes."""
    head, dashes, rest = re.split(r"^(\|[-|]+\|\n)", path.read_text(), maxsplit=1, flags=re.MULTILINE)
    below = re.sub(r"\A(\|.*\n)*", "", rest)
    path.write_text(head + dashes + "".join(f"{row}\n" for row in rows) + below)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=int, default=20, help="random nets a layer type")
    parser.add_argument("--only", choices=sorted(CASES), help="one layer type")
    parser.add_argument("--write", type=Path, help="file whose table gets the rows")
    options = parser.parse_args(argv)
    if not ORACLE.exists():
        sys.exit(f"{ORACLE} is not there: `make oracle` builds it, given a Python 3.9")
    types = [options.only] if options.only else sorted(CASES, key=str.lower)
    rows, failed, total = [], 0, 0
    with Oracle() as oracle:
        for row, count, bad in chain(
            table(types, oracle, options.nets), () if options.only else files(oracle)
        ):
            rows.append(row)
            failed, total = failed + bad, total + count
            print(row, flush=True)
        for name, text in () if options.only else NETS.items():
            here, there = refused(text, oracle)
            if not (here and there):
                failed += 1
                print(f"{name}: refused by {'Caffe only' if there else 'crnn only' if here else 'neither'}")
    print(f"{total} nets of {len(rows)} layer types, {len(NETS)} wrong nets: {failed} fail")
    if options.write:
        write(options.write, rows)
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
