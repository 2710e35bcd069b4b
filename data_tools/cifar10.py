"""CIFAR-10: 50,000 + 10,000 photographs 32 x 32 of ten kinds of things.

SOURCE holds cifar-10-binary.tar.gz (162 MB, md5 c32a1d4ab5d03f1284b67883e8d87530) from
https://www.cs.toronto.edu/~kriz/cifar.html, or its folder cifar-10-batches-bin/. The python version,
which holds pickles, is refused.

As in Caffe's example the channels are R, G, B, the order is the published one, and keys have 5 digits.

Writes OUT/train_lmdb, OUT/test_lmdb, with --val OUT/val_lmdb, OUT/mean.binaryproto and OUT/labels.txt.

  crnn data convert cifar10 --val 10000 downloads/ data/cifar10
"""

import argparse
import sys

from crnn.data_tools import _cifar, _convert, _official
from crnn.data_tools._images import Record
from crnn.data_tools._write import Database

NAME = "cifar10"
FOLDER = "cifar-10-batches-bin"
TRAIN = [f"{FOLDER}/data_batch_{i}.bin" for i in range(1, 6)]
TEST = f"{FOLDER}/test_batch.bin"
NAMES = f"{FOLDER}/batches.meta.txt"
OFFICIAL = 50_000, 10_000


def arguments(parser: argparse.ArgumentParser) -> None:
    _cifar.arguments(parser)


def databases(args: argparse.Namespace) -> list[Database]:
    files = _cifar.find(args, "cifar-10", FOLDER)
    classes = _cifar.names(files, NAMES)
    train = [record for name in TRAIN for record in _records(files, name, len(classes), args.pad)]
    test = _records(files, TEST, len(classes), args.pad)
    _official.write_lines(args.out / "labels.txt", classes)

    def make(part, records, official, inputs):
        mean = args.out / "mean.binaryproto" if part == "train" else None
        path = args.out / f"{part}_lmdb"
        return [Database(path, records, False, _cifar.KEY, mean, len(classes), official, inputs)]

    return _cifar.split(args, train, test, _cifar.inputs(files, *TRAIN, TEST, NAMES), OFFICIAL, make)


def _records(files, name: str, classes: int, pad: int) -> list[Record]:
    images, labels = _cifar.load(files, name, [classes], pad)
    return [Record(name, image, int(label)) for image, (label,) in zip(images, labels, strict=True)]


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
