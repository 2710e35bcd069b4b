"""What every converter shares: labelled images become LMDBs as Caffe's convert_imageset makes them.

A data set is one module of this folder, with

    NAME               its name in `crnn data convert NAME`; the module's docstring is its help
    arguments(parser)  adds its arguments
    databases(args)    returns the list of Database to write
    main(argv)         returns convert(sys.modules[__name__], argv)

Order, resize, encoding, threads, progress, bad images, resuming, checksums, means and manifests are here.
Caffe: tools/convert_imageset.cpp.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from crnn import __version__
from crnn.data.lmdb_writer import MAX_KEY
from crnn.data_tools import _manifest
from crnn.data_tools._images import Form, Ready, Record, ready
from crnn.data_tools._manifest import Tally, pixel_sum, read_manifest
from crnn.data_tools._progress import watched
from crnn.data_tools._store import Remark, Store
from crnn.proto.blobs import write_mean

CHUNK = 32  # records a thread takes at once
LISTED = 100  # skipped images named at the end
EPILOG = """\
Flags may be spelled as Caffe's: -resize_height, --resize_height, --resize-height.
An image that cannot be read is skipped, counted and named at the end and in the manifest; its number stays
unused. EXIF orientation is ignored, as by the OpenCV 2.4 of Caffe's time.
A database is written as NAME.partial and renamed when it is whole. What a stopped or killed run left is
checked and gone on with when the same command is given again; the records are those of an unbroken run, in
their order, with any number of workers. Beside data.mdb lie manifest.json and crc32: see crnn data verify."""


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
    map_classes: int | None = None  # of label maps: pixels are below it, or 255


def convert(dataset, argv: Sequence[str]) -> int:
    """Runs the converter of the module `dataset`: parses, asks for its databases, writes them."""
    parser = argparse.ArgumentParser(
        prog=f"crnn data convert {dataset.NAME}",
        description=dataset.__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    dataset.arguments(parser)
    _arguments(parser)
    args = parser.parse_args(argv)
    size = args.resize_height, args.resize_width
    if size != (0, 0) and min(size) <= 0:
        raise ValueError("--resize-height and --resize-width go together: give both, positive, or none")
    args.work = Path(args.out, ".unpacked") if hasattr(args, "out") else None
    databases = dataset.databases(args)
    runs = [_run(dataset.NAME, database, args) for database in databases]
    try:
        for database, run in _missing(databases, runs, args.keep):
            write(database, run, args)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT
    for database in databases:
        _complete_mean(database)
    if args.work and args.work.exists():
        shutil.rmtree(args.work)
    return 0


def _missing(databases: list[Database], runs: list[dict], keep: bool) -> list[tuple[Database, dict]]:
    """What is to be written, with its run: those that are not there.

    Raises FileExistsError, unless `keep`, where all are there or one is not of this run.
    """
    pairs = list(zip(databases, runs, strict=True))
    there = [os.path.lexists(database.path) for database in databases]
    for (database, run), have in zip(pairs, there, strict=True):
        if have and not keep and (all(there) or not _is_of(run, database)):
            raise FileExistsError(f"{database.path} exists: remove it, write to another folder, or --keep it")
    return [pair for pair, have in zip(pairs, there, strict=True) if not have]


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", action="store_true", help="keep databases that exist, write only the others"
    )
    parser.add_argument("--restart", action="store_true", help="discard what a killed run left")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), metavar="N", help="threads"
    )
    size = parser.get_default("resize_width") or 0  # a data set may have set it
    parser.set_defaults(fit=parser.get_default("fit") or "warp")
    group = parser.add_argument_group("flags of convert_imageset")
    flag(group, "gray", action="store_true", help="one channel; without it colour images have three, BGR")
    flag(group, "shuffle", action="store_true", help="put the records in random order")
    flag(group, "seed", type=int, default=1, metavar="N", help="of --shuffle (default 1)")
    flag(group, "backend", choices=["lmdb"], default="lmdb", help="only lmdb")
    flag(
        group,
        "resize-width",
        type=int,
        default=size,
        metavar="W",
        help=f"of every image (default {size or 'its own'})",
    )
    flag(group, "resize-height", type=int, default=size, metavar="H", help="goes with --resize-width")
    flag(group, "check-size", action="store_true", help="fail if images differ in size")
    flag(group, "encoded", action="store_true", help="store image files: unchanged, if not resized")
    flag(group, "encode-type", default="", metavar="TYPE", help="store them as png, jpg, ...")


def flag(parser, name: str, **options) -> None:
    """Adds --like-this and, unlisted, Caffe's other spellings of it: -like-this, --like_this, -like_this."""
    parser.add_argument(f"--{name}", **options)
    spellings = {dashes + text for dashes in ("-", "--") for text in (name, name.replace("-", "_"))}
    hidden = {"dest": name.replace("-", "_"), "help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument(*sorted(spellings - {f"--{name}"}), **{**options, **hidden})


# ---- what a run is ----


def _ordered(database: Database, args: argparse.Namespace) -> list[Record]:
    records = list(database.records)
    if args.shuffle:
        random.Random(args.seed).shuffle(records)
    return records


def _key(database: Database, number: int, record: Record) -> bytes:
    return database.key(number, record.name).encode("utf-8", "surrogateescape")


def _run(dataset: str, database: Database, args: argparse.Namespace) -> dict:
    """The part of the manifest that is known before the first record; equal for equal output.

    `run` in it sums up all of it with every key and label. Raises ValueError for a key that is too long.
    """
    options = {"size": [args.resize_width, args.resize_height], "fit": args.fit, "gray": args.gray}
    options |= {"encoded": args.encode_type or args.encoded, "shuffle": args.shuffle, "seed": args.seed}
    run = {
        "dataset": dataset,
        "database": os.path.basename(os.path.normpath(database.path)),
        "made_by": f"crnn {__version__}",
        "decoder": _manifest.decoder(),
        "options": options,
        "inputs": database.inputs,
        "classes": database.classes,
        "map_classes": database.map_classes,
        "official": database.official,
    }
    sum_ = hashlib.sha256(json.dumps(run).encode())
    for number, record in enumerate(_ordered(database, args)):
        key = _key(database, number, record)
        if len(key) > MAX_KEY:
            raise ValueError(
                f"key {key[:60]!r}... of {len(key)} bytes, LMDB takes {MAX_KEY}: shorten the path"
            )
        sum_.update(key + b"\0%d\n" % record.label)
    return {**run, "run": sum_.hexdigest()}


def _is_of(run: dict, database: Database) -> bool:
    manifest = read_manifest(database.path) if os.path.isdir(database.path) else None
    return manifest is not None and manifest.get("run") == run["run"]


# ---- writing ----


def write(database: Database, run: dict, args: argparse.Namespace) -> None:
    """Writes one database and reports. Raises ValueError if no image can be read or --check-size fails."""
    records, form = _ordered(database, args), Form.of(args)
    name, tally = run["database"], Tally(database.mean is not None and not form.stores_files)
    with Store(database.path, run["run"], args.restart) as store:
        _check_room(store, len(records), form)
        if store.records:
            print(f"{store.partial}: {store.records:,} records are there, checking them", flush=True)
            for value in watched(store.kept(), f"check {name}", store.records, unit="records"):
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


def _complete_mean(database: Database) -> None:
    """The mean of stored image files, which is taken from the whole database."""
    manifest = read_manifest(database.path)
    if database.mean and manifest and manifest["mean"] and not database.mean.exists():
        from crnn.data_tools.image_mean import image_mean

        write_mean(database.mean, image_mean(database.path))


def _check_room(store: Store, records: int, form: Form) -> None:
    """Raises OSError where the disk is sure to be too small."""
    need = (records - store.records) * form.height * form.width * (1 if form.gray else 3)
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
        keys = [_key(database, n, records[n]) for n in numbers]
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


def run(main: Callable[[list[str]], int]) -> None:
    """For a program started on its own: a user's mistake is one sentence and exit code 1, as in `crnn`."""
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
