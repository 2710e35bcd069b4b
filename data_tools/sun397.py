"""SUN397: 108,754 photographs of 397 scenes in ten partitions.

SOURCE holds, as downloaded or unpacked:
  SUN397.tar.gz    or SUN397.tar, SUN397/       37 GB, md5 8ca2778205c41d23104230ba66911c7a
  Partitions.zip   or Partitions/, the files of which may also lie in SOURCE
                                                md5 29a205c0a0129d21f36cbecfefe81881
from https://vision.princeton.edu/projects/2010/SUN/. The .tar.gz is first expanded in OUT, which takes its
size once more; a .tar is read where it lies, a folder as it is.

A partition has 50 training and 50 test images of each class; the label is the line of the class in
ClassName.txt, counted from 0 (397 lines such as /a/abbey, /a/apartment_building/outdoor).

Writes OUT/partition_01/train_lmdb, test_lmdb (256 x 256 without keeping the aspect, raw, shuffled; 4 GB each)
and mean.binaryproto, to partition_10, and OUT/labels.txt.

  crnn data convert sun397 --partitions 1,2 downloads/ data/sun397
"""

import argparse
import sys

from crnn.data_tools import _convert, _official
from crnn.data_tools._archive import Zip, read
from crnn.data_tools._images import Record
from crnn.data_tools._manifest import digest_of
from crnn.data_tools._write import Database

NAME = "sun397"
PARTITIONS = 10
OFFICIAL = 397 * 50


def arguments(parser: argparse.ArgumentParser) -> None:
    _official.arguments(parser)
    _official.parts(parser, "train", "test")
    parser.add_argument(
        "--partitions",
        type=_numbers,
        default=list(range(1, PARTITIONS + 1)),
        metavar="1,2,...",
        help="all ten if not given",
    )


def _numbers(text: str) -> list[int]:
    numbers = [int(word) for word in text.split(",")]
    if not all(1 <= number <= PARTITIONS for number in numbers):
        raise argparse.ArgumentTypeError(f"partitions are numbered 1 to {PARTITIONS}, got {text}")
    return numbers


def databases(args: argparse.Namespace) -> list[Database]:
    images = _official.find(args, ("SUN397.tar.gz", "SUN397.tar"), "SUN397")
    lists = {"ClassName.txt": _list(args, "ClassName.txt")}
    classes = [name.strip("/") for name in _official.lines(lists["ClassName.txt"])]
    label = {name: i for i, name in enumerate(classes)}
    _official.write_lines(args.out / "labels.txt", classes)
    made = []
    for number in args.partitions:
        for part, prefix in (("train", "Training"), ("test", "Testing")):
            if part not in args.parts:
                continue
            name = f"{prefix}_{number:02d}.txt"
            data = _list(args, name)
            folder = args.out / f"partition_{number:02d}"
            made.append(
                Database(
                    folder / f"{part}_lmdb",
                    [_record(images, line, label, name) for line in _official.lines(data)],
                    mean=folder / "mean.binaryproto" if part == "train" else None,
                    classes=len(classes),
                    official=OFFICIAL,
                    inputs={
                        **_official.archive_of(images),
                        "ClassName.txt": digest_of(lists["ClassName.txt"]),
                        name: digest_of(data),
                    },
                )
            )
    return made


def _list(args: argparse.Namespace, name: str) -> bytes:
    """A list of the partitions, from where it is. Raises FileNotFoundError naming it."""
    for path in (args.source / "Partitions" / name, args.source / name):
        if path.is_file():
            return read(str(path))
    if (args.source / "Partitions.zip").is_file():
        data = Zip(args.source / "Partitions.zip").ending(name)
        if data is not None:
            return data
    raise FileNotFoundError(
        f"{args.source} holds no {name}, nor a Partitions.zip with it: --help says where to get it"
    )


def _record(images, line: str, label: dict[str, int], name: str) -> Record:
    """Of a line such as /a/abbey/sun_aaalbzqrimafwbiv.jpg: its folder is the class."""
    path = line.strip("/")
    folder = path.rpartition("/")[0]
    if folder not in label:
        raise ValueError(f"{name}: {line!r} is in no class of ClassName.txt")
    return Record(path, images.source(f"SUN397/{path}"), label[folder])


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
