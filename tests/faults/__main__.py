"""Injects faults into crnn's commands and counts those that nobody noticed: `make faults`.

python -m tests.faults                                  every fault that has no result yet, and the table
python -m tests.faults --only kill_in_snapshot --times 20
python -m tests.faults --list
python -m tests.faults --fresh --write tests/faults/README.md

A result is kept in build/faults/NAME.json, so that a run that was stopped goes on with the next fault.
Exit code 1 if a fault was silent. Needs Linux and a C compiler (cc).
"""

import argparse
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from random import Random

from .processes import BUILD, import_all, preloaded
from .readme import put
from .table import FAULTS, SILENT, Row, Trial, table


def strike(key: str, times: int | None, seed: int, shown: bool) -> Row:
    """Injects one fault; a line on stderr for each silent one."""
    fault, started = FAULTS[key], time.monotonic()
    times = times or fault.times
    row = Row(fault.name)
    with tempfile.TemporaryDirectory(prefix=f"crnn-{key}-") as folder:
        trial = Trial(times, Random(f"{seed} {key}"), Path(folder).resolve())
        for result in islice(fault.inject(trial), times):
            row.add(result)
            if result.outcome == SILENT:
                print(f"{key}: {result.note}", file=sys.stderr, flush=True)
            if shown and sys.stderr.isatty():
                print(f"\r{key}: {row.injected} of {times} ", end="", file=sys.stderr, flush=True)
    row.seconds = time.monotonic() - started
    return row


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="NAME", action="append", help="a fault of --list; may be repeated")
    parser.add_argument("--times", type=int, metavar="N", help="injections of each (default: --list)")
    parser.add_argument("--seed", type=int, default=1, help="of the random draws (default 1)")
    parser.add_argument("--fresh", action="store_true", help="forget the results of earlier runs")
    parser.add_argument("--write", type=Path, metavar="README", help="put the table there")
    parser.add_argument("--results", type=Path, default=BUILD, metavar="DIR", help="default build/faults")
    parser.add_argument("--list", action="store_true", help="name the faults")
    arguments = parser.parse_args()
    home = Path.cwd()  # some faults work in their own folder
    preloaded()
    from . import converters, damage, hostile, snapshots, surroundings  # noqa: F401 (they register theirs)

    if arguments.list:
        print("\n".join(f"{key:<28}{fault.times:>6}  {fault.name}" for key, fault in FAULTS.items()))
        return 0
    names = arguments.only or list(FAULTS)
    if unknown := set(names) - set(FAULTS):
        parser.error(f"no fault {unknown.pop()!r}; there are {', '.join(FAULTS)}")
    import_all()
    rows = []
    for key in names:
        kept = home / arguments.results / f"{key}.json"
        if arguments.fresh or arguments.only or not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            strike(key, arguments.times, arguments.seed, shown=True).save(kept)
        rows.append(Row.load(kept))
        print(rows[-1], flush=True)
    print(table(rows))
    if arguments.write:
        put(home / arguments.write, "faults", table(rows))
    return int(any(row.silent for row in rows))


if __name__ == "__main__":
    sys.exit(main())
