"""What every converter shares: labelled images become databases as Caffe's convert_imageset makes them.

A data set is one module of this folder, with

    NAME               its name in `crnn data convert NAME`; the module's docstring is its help
    BACKENDS           the kinds of database it writes, if not lmdb alone
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
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from crnn import __version__
from crnn.data.database_writer import check_key
from crnn.data.databases import BACKENDS, engine
from crnn.data_tools import _manifest
from crnn.data_tools._manifest import read_manifest
from crnn.data_tools._write import Database, complete_mean, key_of, ordered, write

EPILOG = """\
Flags may be spelled as Caffe's: -resize_height, --resize_height, --resize-height.
An image that cannot be read is skipped, counted and named at the end and in the manifest; its number stays
unused. EXIF orientation is ignored, as by the OpenCV 2.4 of Caffe's time.
A database is written as NAME.partial and renamed when it is whole. What a stopped or killed run left is
checked and gone on with when the same command is given again; the records are those of an unbroken run, in
their order, with any number of workers. Beside them lie manifest.json and crc32: see crnn data verify."""


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
    _arguments(parser, getattr(dataset, "BACKENDS", BACKENDS[:1]))
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
    except FileExistsError:
        _remove(args.work)
        raise
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT
    for database in databases:
        complete_mean(database)
    _remove(args.work)
    return 0


def _remove(work: Path | None) -> None:
    """What archives left to read from: nothing needs it once the databases are there."""
    if work and work.exists():
        shutil.rmtree(work)


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


def _arguments(parser: argparse.ArgumentParser, backends: Sequence[str]) -> None:
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
    flag(group, "backend", choices=backends, default="lmdb", help=f"{' or '.join(backends)} (default lmdb)")
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


def _run(dataset: str, database: Database, args: argparse.Namespace) -> dict:
    """The part of the manifest that is known before the first record; equal for equal output.

    `run` in it sums up all of it with every key and label. Raises ValueError for a key that is too long.
    """
    options = {"size": [args.resize_width, args.resize_height], "fit": args.fit, "gray": args.gray}
    options |= {"encoded": args.encode_type or args.encoded, "shuffle": args.shuffle, "seed": args.seed}
    options |= {} if args.backend == "lmdb" else {"backend": args.backend}
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
    sum_, kind = hashlib.sha256(json.dumps(run).encode()), engine(args.backend)
    for number, record in enumerate(ordered(database, args)):
        key = key_of(database, number, record)
        check_key(key, kind)
        sum_.update(key + b"\0%d\n" % record.label)
    return {**run, "run": sum_.hexdigest()}


def _is_of(run: dict, database: Database) -> bool:
    manifest = read_manifest(database.path) if os.path.isdir(database.path) else None
    return manifest is not None and manifest.get("run") == run["run"]


def run(main: Callable[[list[str]], int]) -> None:
    """For a program started on its own: a user's mistake is one sentence and exit code 1, as in `crnn`."""
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
