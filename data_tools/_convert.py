"""What every converter shares: labelled images become LMDBs as Caffe's convert_imageset makes them.

A data set is one module of this folder, with

    NAME               its name in `crnn data convert NAME`; the module's docstring is its help
    arguments(parser)  adds its arguments
    records(args)      returns {folder of a database: its list of Record}
    main(argv)         returns convert(sys.modules[__name__], argv)

Order, resize, encoding, threads, progress, bad images and whole-or-nothing writing are here.
Caffe: tools/convert_imageset.cpp, src/caffe/util/io.cpp.
"""

import argparse
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from crnn.data.datum import channels_first, decode_image, encode, encode_file
from crnn.data.lmdb_writer import LmdbWriter

CHUNK = 64  # records a thread takes at once
LISTED = 100  # skipped images named at the end
EPILOG = """\
Flags may be spelled as Caffe's: -resize_height, --resize_height, --resize-height.
An image that cannot be read is skipped, counted and named at the end; its number stays unused.
A database is written as NAME.partial and renamed when it is whole, so a killed run leaves nothing under NAME;
the next run starts afresh."""


class Record(NamedTuple):
    """One labelled image. Its key is its number in 8 digits, `_`, and `name`."""

    name: str
    source: str | np.ndarray  # a file, or pixels as OpenCV has them, [H, W] or [H, W, 3]
    label: int


class Ready(NamedTuple):
    """A record as the database takes it, or the problem that keeps it out."""

    key: bytes
    value: bytes = b""
    size: tuple[int, ...] = ()
    problem: str = ""


def convert(dataset, argv: Sequence[str]) -> int:
    """Runs the converter of the module `dataset`: parses, reads its records, writes its databases."""
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
    databases = dataset.records(args)
    there = [path for path in databases if os.path.lexists(path)]
    if there and not args.keep:
        raise FileExistsError(f"{there[0]} exists: remove it, write to another folder, or --keep it")
    for path, records in databases.items():
        if path not in there:
            write(path, records, args)
    return 0


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", action="store_true", help="keep databases that exist, write only the others"
    )
    group = parser.add_argument_group("flags of convert_imageset")
    flag(group, "gray", action="store_true", help="one channel; without it colour images have three, BGR")
    flag(group, "shuffle", action="store_true", help="put the records in random order")
    flag(group, "seed", type=int, default=1, metavar="N", help="of --shuffle (default 1)")
    flag(group, "backend", choices=["lmdb"], default="lmdb", help="only lmdb")
    flag(group, "resize-width", type=int, default=0, metavar="W", help="warp every image to W x H")
    flag(group, "resize-height", type=int, default=0, metavar="H", help="goes with --resize-width")
    flag(group, "check-size", action="store_true", help="fail if images differ in size")
    flag(group, "encoded", action="store_true", help="store image files: unchanged, if not resized")
    flag(group, "encode-type", default="", metavar="TYPE", help="store them as png, jpg, ...")


def flag(parser, name: str, **options) -> None:
    """Adds --like-this and, unlisted, Caffe's other spellings of it: -like-this, --like_this, -like_this."""
    parser.add_argument(f"--{name}", **options)
    spellings = {dashes + text for dashes in ("-", "--") for text in (name, name.replace("-", "_"))}
    hidden = {"dest": name.replace("-", "_"), "help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument(*sorted(spellings - {f"--{name}"}), **{**options, **hidden})


def write(path, records: Sequence[Record], args: argparse.Namespace) -> None:
    """Writes one database and reports. Raises ValueError if no image can be read or --check-size fails."""
    records = list(records)
    if args.shuffle:
        random.Random(args.seed).shuffle(records)
    count, size, problems = 0, None, []
    with LmdbWriter(path) as db:
        for record in watched(_ready(records, args), os.path.basename(path), len(records)):
            if record.problem:
                problems.append(record.problem)
                continue
            size = size or record.size
            if args.check_size and record.size != size:
                raise ValueError(f"--check-size: {record.key!r} is {record.size}, the first is {size}")
            db.put(record.key, record.value)
            count += 1
        if not count:
            first = f", first {problems[0]}" if problems else ""
            raise ValueError(f"{path} would be empty: none of {len(records)} images could be read{first}")
    print(f"Processed {count} files.")
    print(f"{path}: {count:,} records")
    if problems:
        print("\n  ".join([f"{len(problems):,} unreadable images skipped:", *problems[:LISTED]]))
    if len(problems) > LISTED:
        print(f"  and {len(problems) - LISTED:,} more")


def watched(items: Iterable, what: str, total: int, each: int = 1000) -> Iterator:
    """The items, with a bar and its ETA on a terminal, elsewhere with Caffe's line each so many."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, unit=" images")
        return
    for n, item in enumerate(items, 1):
        yield item
        if n % each == 0 and n < total:
            print(f"Processed {n} files.", flush=True)


def _ready(records: Sequence[Record], args: argparse.Namespace) -> Iterator[Ready]:
    """Every record, in order, made by a few threads: OpenCV works outside the interpreter's lock."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        running: deque = deque()
        for start in range(0, len(records), CHUNK):
            running.append(pool.submit(_ready_chunk, start, records[start : start + CHUNK], args))
            if len(running) > 2 * workers:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()


def _ready_chunk(start: int, records: Sequence[Record], args: argparse.Namespace) -> list[Ready]:
    return [_ready_one(number, record, args) for number, record in enumerate(records, start)]


def _ready_one(number: int, record: Record, args: argparse.Namespace) -> Ready:
    import cv2

    key = f"{number:08d}_{record.name}".encode("utf-8", "surrogateescape")
    try:
        file, image = _read(record, args.gray)
    except (OSError, ValueError) as error:
        return Ready(key, problem=f"{record.source}: {getattr(error, 'strerror', None) or error}")
    if args.resize_height:
        image = cv2.resize(image, (args.resize_width, args.resize_height))
    pixels = channels_first(image)
    kind = _image_type(record, args)
    if not kind:
        value = encode(pixels, record.label)
    elif file and not args.resize_height and _extension(record) in (kind, {"jpg": "jpeg"}.get(kind)):
        value = encode_file(file, record.label)
    else:
        value = encode_file(_encode_image(image, kind), record.label)
    return Ready(key, value, pixels.shape)


def _read(record: Record, gray: bool) -> tuple[bytes, np.ndarray]:
    """(the image file's bytes if any, its pixels as OpenCV has them); OSError or ValueError if unreadable."""
    if isinstance(record.source, str):
        with open(record.source, "rb") as stream:
            file = stream.read()
        return file, decode_image(file, color=not gray)
    if gray and record.source.ndim == 3:
        import cv2

        return b"", cv2.cvtColor(record.source, cv2.COLOR_BGR2GRAY)
    return b"", record.source


def _image_type(record: Record, args: argparse.Namespace) -> str:
    """The type of image file to store, or "" for pixels."""
    if args.encode_type or not args.encoded:
        return args.encode_type.lower()
    if not isinstance(record.source, str):
        return "png"
    if not _extension(record):
        raise ValueError(f"--encoded cannot tell the type of {record.name!r} by its name: give --encode-type")
    return _extension(record)


def _extension(record: Record) -> str:
    return PurePath(record.name).suffix[1:].lower()


def _encode_image(image: np.ndarray, kind: str) -> bytes:
    import cv2

    try:
        return cv2.imencode(f".{kind}", image)[1].tobytes()
    except cv2.error:
        raise ValueError(f"OpenCV writes no image files of type {kind!r}: use png or jpg") from None


def run(main: Callable[[list[str]], int]) -> None:
    """For a program started on its own: a user's mistake is one sentence and exit code 1, as in `crnn`."""
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
