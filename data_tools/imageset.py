"""Images named in a list become an LMDB or LevelDB: Caffe's convert_imageset.

The list has a line `path label` a image; the path may hold spaces and is appended to ROOT. Keys are the
line's number (after --shuffle) and the path.

  crnn data convert imageset --shuffle --resize-height 256 --resize-width 256 images/ train.txt train_lmdb
"""

import argparse
import os
import sys

from crnn.data.databases import BACKENDS  # noqa: F401 (read by _convert)
from crnn.data_tools import _convert
from crnn.data_tools._images import Record
from crnn.data_tools._manifest import digest
from crnn.data_tools._write import Database

NAME = "imageset"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", metavar="ROOT", help="folder that the list's paths start from")
    parser.add_argument("list", metavar="LIST", help="text file with a line `path label` for each image")
    parser.add_argument("database", metavar="DB", help="folder of the database to write; must not exist")


def databases(args: argparse.Namespace) -> list[Database]:
    # Appended as text, as Caffe does: SUN397's lists begin each path with a slash.
    root = args.root + "/" * (os.path.isdir(args.root) and not args.root.endswith("/"))
    records = [Record(path, root + path, label) for path, label in read_list(args.list)]
    inputs = {os.path.basename(args.list): digest(args.list)}
    return [Database(args.database, records, inputs=inputs, origin=os.path.realpath(root))]


def read_list(path: str) -> list[tuple[str, int]]:
    """(path, label) of each line. Raises OSError where there is no list, else as `parse_list`."""
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no list {path}")
    with open(path, "rb") as file:
        return parse_list(file.read(), path)


def parse_list(data: bytes, path: str) -> list[tuple[str, int]]:
    """(path, label) of each line; the last blank splits. Empty lines do not count.

    Raises ValueError naming the line without a label.
    """
    lines = []
    for number, line in enumerate(data.decode("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        try:
            lines.append((name.rstrip(), _label(label)))
        except ValueError:
            raise ValueError(
                f"{path}:{number}: {line.strip()!r} is not `path label` with a whole label"
            ) from None
    return lines


def _label(text: str) -> int:
    label = int(text)
    if not -(1 << 31) <= label < 1 << 31:
        raise ValueError(text)
    return label


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
