"""MIT indoor scenes: 15,620 photographs of 67 kinds of rooms, of which 6,700 are split.

SOURCE holds, as downloaded or unpacked:
  indoorCVPR_09.tar                     or Images/CLASS/FILE         2.4 GB
  TrainImages.txt and TestImages.txt    5,360 (80 a class) and 1,340 (20 a class) lines CLASS/FILE
from http://web.mit.edu/torralba/www/indoor.html. The tar is read where it lies, never unpacked.

The label is the rank of the class's name among the classes of both lists. Some files are not what their names
say (PNG, GIF): what OpenCV can decode is taken and noted in the manifest, the rest is skipped.

Writes OUT/train_lmdb, OUT/test_lmdb (256 x 256 without keeping the aspect, raw, shuffled: 1.3 GB together),
OUT/mean.binaryproto and OUT/labels.txt.

  crnn data convert mit67 downloads/ data/mit67
"""

import argparse
import sys

from crnn.data_tools import _convert, _official
from crnn.data_tools._archive import read
from crnn.data_tools._images import Record
from crnn.data_tools._manifest import digest_of
from crnn.data_tools._write import Database

NAME = "mit67"
LISTS = {"train": "TrainImages.txt", "test": "TestImages.txt"}
OFFICIAL = {"train": 80 * 67, "test": 20 * 67}


def arguments(parser: argparse.ArgumentParser) -> None:
    _official.arguments(parser)
    _official.parts(parser, *LISTS)


def databases(args: argparse.Namespace) -> list[Database]:
    images = _official.find(args, ("indoorCVPR_09.tar",), "Images")
    data = {part: _list(args, name) for part, name in LISTS.items()}
    names = {part: [line.strip("/") for line in _official.lines(text)] for part, text in data.items()}
    classes = sorted({name.partition("/")[0] for part in names.values() for name in part})
    label = {name: i for i, name in enumerate(classes)}
    _official.write_lines(args.out / "labels.txt", classes)
    return [
        Database(
            args.out / f"{part}_lmdb",
            [Record(n, images.source(f"Images/{n}"), label[n.partition("/")[0]]) for n in names[part]],
            mean=args.out / "mean.binaryproto" if part == "train" else None,
            classes=len(classes),
            official=OFFICIAL[part],
            inputs={
                **_official.archive_of(images),
                **{LISTS[p]: digest_of(text) for p, text in data.items()},
            },
        )
        for part in args.parts
    ]


def _list(args: argparse.Namespace, name: str) -> bytes:
    if not (args.source / name).is_file():
        raise FileNotFoundError(f"{args.source} holds no {name}: --help says where to get it")
    return read(str(args.source / name))


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
