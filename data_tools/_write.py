"""One database: its records made by threads, in order, and put in a Store with tally, mean and manifest."""

import argparse
import random
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crnn.data_tools import _manifest
from crnn.data_tools._images import Form, Ready, Record, ready
from crnn.data_tools._manifest import Tally, pixel_sum, read_manifest
from crnn.data_tools._progress import watched
from crnn.data_tools._store import Remark, Store
from crnn.proto.blobs import write_mean

CHUNK = 32  # records a thread takes at once
LISTED = 100  # skipped images named at the end


@dataclass(frozen=True)
class Database:
    """A database to write, and what its manifest says of it."""

    path: Path
    records: Sequence[Record]
    beside: bool = False  # stores what the records have beside their images
    key: Callable[[int, str], str] = "{:08d}_{}".format  # of a record's number and name
    mean: Path | None = None  # where the mean image goes
    classes: int | None = None
    official: int | None = None  # records of the published set
    inputs: dict[str, dict] = field(default_factory=dict)  # lists and archives: bytes, sha256
    origin: str = ""  # where the images lie: what a killed run left goes with those of no other place
    map_classes: int | None = None  # of label maps: pixels are below it, or 255


def ordered(database: Database, args: argparse.Namespace) -> list[Record]:
    records = list(database.records)
    if args.shuffle:
        random.Random(args.seed).shuffle(records)
    return records


def key_of(database: Database, number: int, record: Record) -> bytes:
    return database.key(number, record.name).encode("utf-8", "surrogateescape")


def write(database: Database, run: dict, args: argparse.Namespace) -> None:
    """Writes one database and reports. Raises ValueError if no image can be read or --check-size fails."""
    records, form = ordered(database, args), Form.of(args)
    name, tally = run["database"], Tally(database.mean is not None, form.stores_files and not database.beside)
    with Store(database.path, run["run"] + database.origin, args.restart, args.backend) as store:
        _check_room(store, len(records), form, 1 if form.gray or database.beside else 3)
        if store.records:
            print(f"{store.partial}: {store.records:,} records are there, checking them", flush=True)
            for value in watched(store.kept(), f"check {name}", store.records, 100_000, unit="records"):
                tally.add_value(value)
        done = store.inputs
        for one in watched(_ready(database, records, args, tally, done), name, len(records), done=done):
            _put(store, one, records[one.number].name, args.check_size and tally)
        store.commit()
        store.wait()
        if not store.records:
            first = f", first {_problem(records, store.remarks[0])}" if store.remarks else ""
            raise ValueError(
                f"{database.path} would be empty: none of {len(records)} images could be read{first}"
            )
        if tally.mean is not None:
            write_mean(database.mean, tally.mean)
        mean = database.mean if tally.mean is not None or (form.stores_files and form.height) else None
        store.finish(_manifest.finished(run, store, tally, len(records), mean))
    _report(run, store, mean, [_problem(records, remark) for remark in store.remarks if remark.skipped])


def complete_mean(database: Database) -> None:
    """The mean of stored image files, which is taken from the whole database."""
    manifest = read_manifest(database.path)
    if database.mean and manifest and manifest["mean"] and not database.mean.exists():
        from crnn.data_tools.image_mean import image_mean

        write_mean(database.mean, image_mean(database.path))


def _check_room(store: Store, records: int, form: Form, channels: int) -> None:
    """Raises OSError where the disk is sure to be too small."""
    need = (records - store.records) * form.height * form.width * channels
    free = shutil.disk_usage(store.partial).free
    if need > free and not form.stores_files:
        raise OSError(f"{store.path} will take {need / 1e9:,.1f} GB more, {free / 1e9:,.1f} GB are free")


def _put(store: Store, one: Ready, name: str, same_size: Tally | None) -> None:
    if one.problem:
        store.remark(Remark(one.number, name, True, one.problem))
        return
    if same_size and one.shape != same_size.first_shape:
        raise ValueError(f"--check-size: {one.key!r} is {one.shape}, the first is {same_size.first_shape}")
    if one.oddity:
        store.remark(Remark(one.number, name, False, one.oddity))
    store.add(one.number, one.key, one.value, one.crc)


def _problem(records: list[Record], remark: Remark) -> str:
    source = records[remark.number].source
    return f"{remark.name if isinstance(source, np.ndarray) else source}: {remark.text}"


def _report(run: dict, store: Store, mean: Path | None, problems: list[str]) -> None:
    odd = [f"{remark.name} is {remark.text}" for remark in store.remarks if not remark.skipped]
    print(f"Processed {store.records} files.")
    official = run["official"]
    note = f" (the published set has {official:,})" if official and official != store.records else ""
    print(f"{store.path}: {store.records:,} records{note}")
    if mean:
        print(f"{mean}: its mean")
    for what, rows in (("unreadable images skipped", problems), ("images not as their names say", odd)):
        if rows:
            print("\n  ".join([f"{len(rows):,} {what}:", *rows[:LISTED]]))
        if len(rows) > LISTED:
            print(f"  and {len(rows) - LISTED:,} more")


# ---- in parallel ----


def _ready(database, records, args, tally: Tally, start: int) -> Iterator[Ready]:
    """Every record from number `start` on, in order, made by threads: OpenCV works outside Python's lock."""
    form = Form.of(args)

    def chunk(first: int) -> tuple[list[Ready], np.ndarray | None]:
        numbers = range(first, min(first + CHUNK, len(records)))
        keys = [key_of(database, n, records[n]) for n in numbers]
        made = [
            ready(n, key, records[n], form, database.beside) for n, key in zip(numbers, keys, strict=True)
        ]
        total = pixel_sum([one.pixels for one in made if not one.problem]) if tally.summed else None
        return [one._replace(pixels=None) for one in made], total

    with ThreadPoolExecutor(args.workers, initializer=_one_thread_each) as pool:
        running: deque = deque()
        for first in range(start, len(records), CHUNK):
            running.append(pool.submit(chunk, first))
            if len(running) > 4 * args.workers:
                yield from _tallied(*running.popleft().result(), tally)
        while running:
            yield from _tallied(*running.popleft().result(), tally)


def _one_thread_each() -> None:
    import cv2

    cv2.setNumThreads(1)


def _tallied(made: list[Ready], total: np.ndarray | None, tally: Tally) -> Iterator[Ready]:
    for one in made:
        if not one.problem:
            tally.add(one.label, one.shape)
        yield one
    if total is not None:
        tally.add_sum(total)
