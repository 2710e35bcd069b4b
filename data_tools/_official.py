"""What the converters of published data sets share: a folder with the downloads, and lists as published."""

import argparse
import os
from pathlib import Path

from crnn.data_tools._archive import Folder, Tar


def arguments(parser: argparse.ArgumentParser, size: int = 256, shuffle: bool = True) -> None:
    """SOURCE and OUT, and the defaults of a set of photographs: warped to size x size, shuffled."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder with the files named above")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write in")
    parser.set_defaults(shuffle=shuffle, resize_width=size, resize_height=size)
    if shuffle:
        parser.add_argument(
            "--in-order", dest="shuffle", action="store_false", help="do not shuffle (seed: --seed)"
        )


def parts(parser: argparse.ArgumentParser, *names: str) -> None:
    """--parts, some of `names`."""

    def chosen(text: str) -> list[str]:
        if not set(text.split(",")) <= set(names):
            raise argparse.ArgumentTypeError(f"wanted some of {','.join(names)}, got {text}")
        return [name for name in names if name in text.split(",")]

    parser.add_argument(
        "--parts",
        type=chosen,
        default=list(names),
        metavar=",".join(names),
        help="databases to write, all if not given",
    )


def find(args: argparse.Namespace, archives: tuple[str, ...], unpacked: str, root: str = "", nested=False):
    """The files of SOURCE/root if SOURCE/unpacked is there, else of the first archive that is.

    Raises FileNotFoundError naming all of them.
    """
    if (args.source / unpacked).exists():
        return Folder(args.source / root)
    for name in archives:
        if (args.source / name).is_file():
            return Tar(args.source / name, args.work, nested)
    wanted = ", ".join([f"{unpacked}/" if "." not in unpacked else unpacked, *archives])
    raise FileNotFoundError(f"{args.source} holds none of {wanted}: --help says where to get it")


def lines(data: bytes) -> list[str]:
    """The lines of a published list: CRLF or LF, with or without the last newline, none of them empty."""
    text = data.decode("utf-8-sig", "surrogateescape")
    return [line.strip() for line in text.splitlines() if line.strip()]


def archive_of(files) -> dict[str, dict]:
    """What the manifest says of where files come from."""
    if isinstance(files, Folder):
        return {}
    return {os.path.basename(files.path): {"bytes": os.path.getsize(files.path)}}


def write_lines(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8", errors="surrogateescape")
