"""Part of a database, as an LMDB: its records from one share of it to another, unchanged, under their keys.

Of a shuffled database any part is a random one. Shares are of 1; parts that meet have no record in common.

  crnn data part train_lmdb fine_20_lmdb 0 0.2
"""

import argparse
from pathlib import Path

from crnn.data.databases import open_database
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools._convert import run
from crnn.data_tools._progress import watched


def write(database: Path, out: Path, first: float, last: float) -> int:
    """Writes `out`; the number of records. Raises ValueError for shares that are none or leave nothing."""
    reader = open_database(database)
    fit = 0 <= first < last <= 1
    start, stop = (round(share * len(reader)) if fit else 0 for share in (first, last))
    if start == stop:
        raise ValueError(
            f"shares {first:g} to {last:g} of {len(reader):,} records: wanted 0 <= FIRST < LAST <= 1 "
            "and a record"
        )
    with LmdbWriter(out) as db:
        items = watched(reader.items(start), "part", stop - start, each=100_000)
        for _, (key, value) in zip(range(stop - start), items, strict=False):
            db.put(key, value)
    return stop - start


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn data part", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("database", metavar="DB", type=Path, help="the LMDB or LevelDB")
    parser.add_argument("out", metavar="OUT", type=Path, help="the LMDB to write; must not exist")
    parser.add_argument("first", metavar="FIRST", type=float, help="where it begins, 0 to 1")
    parser.add_argument("last", metavar="LAST", type=float, help="where it ends, 0 to 1")
    args = parser.parse_args(argv)
    count = write(args.database, args.out, args.first, args.last)
    print(f"{args.out}: {count:,} records of {args.database}")
    return 0


if __name__ == "__main__":
    run(main)
