"""Whether a database is as its converter wrote it, and fits to be trained on.

Reads every record and checks: the file's size and, with lmdb 3.0 or newer, its pages; that as many records as
it says come in the order of their keys, decode and have no negative label; and, where crnn's converters wrote
it, each record's checksum, and number, labels, shape and mean against the manifest. Exit code 1 if anything
is wrong.

  crnn data verify data/ilsvrc2012/train_lmdb
"""

import argparse
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np

from crnn.data import checksums
from crnn.data.checksums import checksum, read_checksums
from crnn.data.databases import open_database
from crnn.data.datum import decode, parse
from crnn.data.lmdb_reader import LmdbReader
from crnn.data_tools._convert import run
from crnn.data_tools._images import VOID
from crnn.data_tools._manifest import Tally, digest, read_manifest
from crnn.data_tools._progress import watched
from crnn.proto.blobs import read_mean

CHUNK = 64  # records a thread takes at once
SHOWN = 20  # problems said one by one


def verify(path, decoded: bool = True, workers: int | None = None) -> list[str]:
    """What is wrong with a database, a sentence each. Raises OSError as open_database does."""
    reader, sums, manifest = open_database(path), read_checksums(path), read_manifest(path) or {}
    if isinstance(reader, LmdbReader) and (found := _pages(path)):
        return found
    problems, tally = [], Tally(summed=False)
    if not len(reader):
        problems.append("it holds no records")
    if sums is not None and len(sums) != len(reader):
        problems.append(f"{len(reader):,} records, but {len(sums):,} checksums")
        sums = None
    check = _Check(sums, manifest, decoded)
    items = watched(reader.items(), f"verify {os.path.basename(path)}", len(reader), 100_000, unit="records")
    keys = _Keys()
    for found, label, shape in _in_order(check, keys.watched(items), workers):
        problems += found
        if shape:
            tally.add(label, shape)
    problems += keys.problems
    if keys.count != len(reader):
        problems.append(f"{keys.count:,} records can be reached, it says it holds {len(reader):,}")
    if len(tally.shapes) > 1 and manifest.get("shape"):
        problems.append(f"records of {len(tally.shapes)} shapes, the manifest says {manifest['shape']}")
    return problems + _against(manifest, path, len(reader), tally)


class _Keys:
    """Counts records on their way and looks at the order of their keys."""

    def __init__(self):
        self.count, self.last, self.problems = 0, b"", []

    def watched(self, items: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for key, value in items:
            if key <= self.last:
                self.problems.append(f"record {key!r} comes after {self.last!r}: its pages are out of order")
            self.count, self.last = self.count + 1, key
            yield key, value


def _pages(path) -> list[str]:
    """What is wrong with an LMDB's pages, read as bytes: LMDB believes them, and may end the process."""
    try:
        from lmdb.verify import VerifyError
        from lmdb.verify import verify as damage
    except ImportError:  # lmdb before 3.0
        return []
    try:
        return [f"its pages are damaged: {problem}; copy or convert it again" for problem in damage(path)]
    except VerifyError as error:
        raise OSError(f"{path} is damaged ({error}): copy or convert it again") from None


class _Check:
    """Checks one record: (problems, label, shape)."""

    def __init__(self, sums: np.ndarray | None, manifest: dict, decoded: bool):
        self.sums, self.decoded = sums, decoded
        self.classes, self.map_classes = manifest.get("classes"), manifest.get("map_classes")

    def __call__(self, number: int, key: bytes, value: bytes) -> tuple[list[str], int, tuple[int, ...]]:
        if self.sums is not None and checksum(key, value) != self.sums[number]:
            return [f"record {key!r} is not what was written: its crc32 differs"], 0, ()
        try:
            datum = parse(value)
            if datum.encoded and not self.decoded:
                return self._label(key, datum.label), datum.label, ()
            pixels, label = decode(value)
        except ValueError as error:
            return [f"record {key!r} is {error}"], 0, ()
        problems = self._label(key, label)
        if self.map_classes and (odd := pixels[(pixels >= self.map_classes) & (pixels != VOID)]).size:
            problems.append(
                f"record {key!r} is a map with the value {odd[0]}, beyond {self.map_classes} classes"
            )
        if pixels.dtype != np.uint8 and not np.isfinite(pixels).all():
            problems.append(f"record {key!r} holds values that are not finite")
        return problems, label, pixels.shape

    def _label(self, key: bytes, label: int) -> list[str]:
        if label < 0 or (self.classes and label >= self.classes):
            return [f"record {key!r} has label {label}, outside 0 to {(self.classes or 1 << 31) - 1}"]
        return []


def _in_order(check: _Check, items: Iterator[tuple[bytes, bytes]], workers: int | None) -> Iterator[tuple]:
    """`check` of every record, by threads."""
    workers = workers or len(os.sched_getaffinity(0))

    def chunk(start: int, records: list[tuple[bytes, bytes]]) -> list[tuple]:
        return [check(number, *record) for number, record in enumerate(records, start)]

    with ThreadPoolExecutor(workers) as pool:
        running: deque = deque()
        start = 0
        while records := list(islice(items, CHUNK)):
            running.append(pool.submit(chunk, start, records))
            start += len(records)
            if len(running) > 2 * workers:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()


def _against(manifest: dict, path, records: int, tally: Tally) -> list[str]:
    """What does not fit the manifest."""
    if not manifest:
        return []
    problems = []
    if records != manifest["records"]:
        problems.append(f"{records:,} records, the manifest says {manifest['records']:,}")
    labels = {str(label): n for label, n in tally.labels.items()}
    if sum(labels.values()) == records and labels != manifest["labels"]:
        problems.append("its labels are not those the manifest counts")
    sums = os.path.join(path, checksums.NAME)
    if not os.path.exists(sums):
        problems.append("its checksums are missing")
    elif digest(sums)["sha256"] != manifest["crc32"]:
        problems.append("its checksums are not those the manifest was written with")
    if manifest["mean"]:
        problems += _mean(os.path.normpath(os.path.join(path, manifest["mean"])), manifest["shape"])
    return problems


def _mean(path: str, shape: list[int] | None) -> list[str]:
    if not os.path.exists(path):
        return [f"its mean {path} is missing: crnn data mean makes it"]
    mean = read_mean(path)
    if shape and list(mean.shape) != shape:
        return [f"its mean {path} is {list(mean.shape)}, the records {shape}"]
    return [] if np.isfinite(mean).all() else [f"its mean {path} holds values that are not finite"]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn data verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("databases", metavar="DB", nargs="+", help="folder of a database")
    parser.add_argument("--no-decode", action="store_true", help="do not decode stored image files")
    args = parser.parse_args(argv)
    bad = 0
    for path in args.databases:
        problems = verify(path, not args.no_decode)
        bad += bool(problems)
        if not problems:
            what = (
                "checksums, labels and shapes"
                if read_manifest(path)
                else "no manifest: only decoding and labels"
            )
            print(f"{path}: {len(open_database(path)):,} records are good ({what})")
            continue
        print("\n  ".join([f"{path}: {len(problems):,} problems", *problems[:SHOWN]]))
        if len(problems) > SHOWN:
            print(f"  and {len(problems) - SHOWN:,} more")
    return 1 if bad else 0


if __name__ == "__main__":
    run(main)
