"""Places205: 2,448,873 + 20,500 photographs of 205 scenes.

SOURCE holds, as downloaded or unpacked:
  imagesPlaces205_resize.tar.gz    or imagesPlaces205_resize.tar, data/vision/torralba/deeplearning/images256/
  trainvalsplit_places205.tar.gz   or trainvalsplit_places205/ with train_places205.csv and val_places205.csv
from http://places.csail.mit.edu/downloadData.html. The .tar.gz of the images is first expanded in OUT, which
takes its size once more; a .tar is read where it lies, a folder as it is.

A line of the lists is a path below images256/ and a label, as in a/abbey/NAME.jpg 0.

Writes OUT/train_lmdb, OUT/val_lmdb (256 x 256, raw, shuffled: 491 GB and 4 GB; --encoded --resize-width 0
--resize-height 0 stores the JPEG files), OUT/mean.binaryproto and OUT/labels.txt.

  crnn data convert places205 downloads/ data/places205
"""

import argparse
import sys

from crnn.data_tools import _convert, _official
from crnn.data_tools._archive import read
from crnn.data_tools._images import Record
from crnn.data_tools._manifest import digest_of
from crnn.data_tools._write import Database
from crnn.data_tools.imageset import parse_list

NAME = "places205"
IMAGES = "data/vision/torralba/deeplearning/images256"
SPLIT = "trainvalsplit_places205"
OFFICIAL = {"train": 2_448_873, "val": 20_500}


def arguments(parser: argparse.ArgumentParser) -> None:
    _official.arguments(parser)
    _official.parts(parser, *OFFICIAL)


def databases(args: argparse.Namespace) -> list[Database]:
    split = _official.find(args, (f"{SPLIT}.tar.gz",), SPLIT)
    data = {part: read(split.source(f"{SPLIT}/{part}_places205.csv")) for part in OFFICIAL}
    listed = {part: parse_list(text, f"{part}_places205.csv") for part, text in data.items()}
    classes = _classes(listed)
    images = _official.find(args, ("imagesPlaces205_resize.tar.gz", "imagesPlaces205_resize.tar"), IMAGES)
    _official.write_lines(args.out / "labels.txt", classes)
    return [
        Database(
            args.out / f"{part}_lmdb",
            [Record(name, images.source(f"{IMAGES}/{name}"), label) for name, label in listed[part]],
            mean=args.out / "mean.binaryproto" if part == "train" else None,
            classes=len(classes),
            official=OFFICIAL[part],
            inputs={
                **_official.archive_of(images),
                **{f"{p}_places205.csv": digest_of(text) for p, text in data.items()},
            },
        )
        for part in args.parts
    ]


def _classes(listed: dict[str, list[tuple[str, int]]]) -> list[str]:
    """The folder of each label. Raises ValueError where a label has two or none."""
    folders: dict[int, str] = {}
    for name, label in (pair for part in listed.values() for pair in part):
        folder = name.strip("/").rpartition("/")[0]
        if folders.setdefault(label, folder) != folder:
            raise ValueError(
                f"label {label} is {folders[label]} and, with {name}, {folder}: get the lists again"
            )
    if sorted(folders) != list(range(len(folders))):
        raise ValueError(
            f"the lists have {len(folders)} labels from {min(folders)} to {max(folders)}: get them again"
        )
    return [folders[label] for label in sorted(folders)]


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
