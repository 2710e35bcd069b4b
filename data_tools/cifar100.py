"""CIFAR-100: 50,000 + 10,000 photographs 32 x 32 of 100 kinds of things in 20 groups.

SOURCE holds cifar-100-binary.tar.gz (161 MB, md5 03b5dce01913d631647c71ecec9e9cb8) from
https://www.cs.toronto.edu/~kriz/cifar.html, or its folder cifar-100-binary/. The python version, which holds
pickles, is refused.

The label of an image is its fine class, or with --label coarse its group. Beside each database of images
stands one of label sequences with the same keys: Datums of 2 x 1 x 1 floats, the coarse label (0 to 19), then
the fine one (0 to 99). As in Caffe's CIFAR-10 the channels are R, G, B, the order is the published one, and
keys have 5 digits.

Writes OUT/train_lmdb, OUT/train_labels_lmdb, the same for test and, with --val, val; OUT/mean.binaryproto,
OUT/coarse_labels.txt, OUT/fine_labels.txt.

  crnn data convert cifar100 downloads/ data/cifar100
"""

import argparse
import sys

import numpy as np

from crnn.data_tools import _cifar, _convert, _official
from crnn.data_tools._images import Record
from crnn.data_tools._write import Database

NAME = "cifar100"
FOLDER = "cifar-100-binary"
LEVELS = ("coarse", "fine")
OFFICIAL = 50_000, 10_000


def arguments(parser: argparse.ArgumentParser) -> None:
    _cifar.arguments(parser)
    parser.add_argument("--label", choices=LEVELS, default="fine", help="label of the images (default fine)")


def databases(args: argparse.Namespace) -> list[Database]:
    files = _cifar.find(args, "cifar-100", FOLDER)
    names = {level: _cifar.names(files, f"{FOLDER}/{level}_label_names.txt") for level in LEVELS}
    classes = [len(names[level]) for level in LEVELS]
    level = LEVELS.index(args.label)
    train, test = (
        _records(files, f"{FOLDER}/{part}.bin", classes, level, args.pad) for part in ("train", "test")
    )
    for name, rows in names.items():
        _official.write_lines(args.out / f"{name}_labels.txt", rows)

    def make(part, records, official, inputs):
        mean = args.out / "mean.binaryproto" if part == "train" else None
        rest = classes[level], official, inputs
        return [
            Database(args.out / f"{part}_lmdb", records, False, _cifar.KEY, mean, *rest),
            Database(args.out / f"{part}_labels_lmdb", records, True, _cifar.KEY, None, *rest),
        ]

    inputs = _cifar.inputs(files, *(f"{FOLDER}/{part}.bin" for part in ("train", "test")))
    return _cifar.split(args, train, test, inputs, OFFICIAL, make)


def _records(files, name: str, classes: list[int], level: int, pad: int) -> list[Record]:
    images, labels = _cifar.load(files, name, classes, pad)
    sequences = labels.astype(np.float32)[:, :, None, None]  # [N, T, 1, 1]
    return [
        Record(name, image, int(sequence[level].item()), sequence)
        for image, sequence in zip(images, sequences, strict=True)
    ]


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
