"""CIFAR's binary files: records of one or two label bytes and 3,072 of pixels, planes R, G, B of 32 x 32.

Caffe: examples/cifar10/convert_cifar_data.cpp, which keeps R, G, B and numbers the keys in 5 digits.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np

from crnn.data_tools import _official
from crnn.data_tools._archive import read
from crnn.data_tools._images import Record
from crnn.data_tools._manifest import digest_of
from crnn.data_tools._write import Database

PIXELS = 3 * 32 * 32
KEY = "{:05d}".format


def arguments(parser: argparse.ArgumentParser) -> None:
    _official.arguments(parser, size=0, shuffle=False)
    parser.add_argument(
        "--val",
        type=int,
        default=0,
        metavar="N",
        help="the last N training images go to val_lmdb; 10000 is the 40k/10k/10k split of the L-RNN paper",
    )
    parser.add_argument(
        "--pad",
        type=int,
        default=0,
        metavar="N",
        help="N rows and columns of zeros on each side; with 4 and crop_size 32 the usual augmentation",
    )


def find(args: argparse.Namespace, stem: str, folder: str):
    """The files of the binary version. Raises ValueError for the one with pickles."""
    try:
        return _official.find(args, (f"{stem}-binary.tar.gz",), folder)
    except FileNotFoundError as error:
        if (args.source / f"{stem}-python.tar.gz").exists():
            raise ValueError(
                f"{stem}-python.tar.gz holds pickles, which may run any code and are never loaded: "
                f"take {stem}-binary.tar.gz, the same images (--help says where)"
            ) from None
        raise error


def load(files, name: str, classes: Sequence[int], pad: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(images [N, 32, 32, 3] in the file's R, G, B, labels [N, len(classes)]) of one file.

    pad: how many zeros are laid around each image.

    Raises ValueError for a file that is cut and for a label that is not below its number of classes.
    """
    data = read(files.source(name))
    size = len(classes) + PIXELS
    if not data or len(data) % size:
        raise ValueError(f"{files.path}: {name} has {len(data):,} bytes, no multiple of {size}: get it again")
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels, planes = rows[:, : len(classes)], rows[:, len(classes) :].reshape(-1, 3, 32, 32)
    if (labels >= np.array(classes)).any():
        raise ValueError(f"{files.path}: {name} has a label beyond its {classes} classes: get it again")
    border = [(0, 0), (pad, pad), (pad, pad), (0, 0)]
    return np.pad(planes.transpose(0, 2, 3, 1), border), labels


def names(files, name: str) -> list[str]:
    """The class names of a file, one a line."""
    return _official.lines(read(files.source(name)))


def split(
    args: argparse.Namespace,
    train: list[Record],
    test: list[Record],
    inputs: dict,
    official: tuple[int, int],
    make: Callable[..., list[Database]],
) -> list[Database]:
    """The databases that `make(part, records, official, inputs)` gives for train, val (--val) and test."""
    if not 0 <= args.val < len(train):
        raise ValueError(
            f"--val takes 0 to {len(train) - 1} of the {len(train):,} training images, got {args.val}"
        )
    cut = len(train) - args.val
    made = make("train", train[:cut], official[0] - args.val, inputs)
    if args.val:
        made += make("val", train[cut:], args.val, inputs)
    return made + make("test", test, official[1], inputs)


def inputs(files, *file_names: str) -> dict:
    found = {name.rpartition("/")[2]: digest_of(read(files.source(name))) for name in file_names}
    return {**_official.archive_of(files), **found}
