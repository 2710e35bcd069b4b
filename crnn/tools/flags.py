"""Caffe's flag style (gflags) for argparse: -flag or --flag, _ or -, value after = or a space."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_FLAG = re.compile(r"--?([A-Za-z][\w-]+)(=.*)?", re.DOTALL)  # -h keeps its meaning, -1 stays a number
_LIST = re.compile(r"-[\d.][^,]*,.*")  # of numbers; argparse takes it for flags, but behind an =
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


def normalise(argv: list[str], booleans: tuple[str, ...] = ()) -> list[str]:
    """argv with every flag written --like-this; what follows a bare `--` is left alone.

    `booleans` names the store_true flags, whose gflags forms --flag=true, --flag=false and --noflag are
    turned into the flag or its absence. Raises ValueError for another value of such a flag.
    """
    words = []
    for i, word in enumerate(argv):
        match = _FLAG.fullmatch(word)
        if word == "--":
            return words + argv[i:]
        if not match:
            if _LIST.fullmatch(word) and words and words[-1].startswith("--") and "=" not in words[-1]:
                words[-1] += f"={word}"
            else:
                words.append(word)
            continue
        name, value = match[1].replace("_", "-"), match[2] or ""
        if name.startswith("no") and name[2:].lstrip("-") in booleans and not value:
            continue
        if name in booleans and value:
            if value[1:].lower() not in _TRUE + _FALSE:
                raise ValueError(f"--{name} is true or false, got {value[1:]!r}")
            if value[1:].lower() in _TRUE:
                words.append(f"--{name}")
            continue
        words.append(f"--{name}{value}")
    return words


def text_lines(path: str | os.PathLike) -> list[str]:
    """The lines of a text file. ValueError where it is not UTF-8, OSError where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not text in UTF-8 (byte {error.start}): convert it, as by iconv -f latin1 -t utf-8"
        ) from None


def check_out(flag: str, path: str | os.PathLike | None) -> None:
    """Raises OSError, before the work, where a file that is to be written after it could not be."""
    if path is None:
        return
    folder = Path(path).parent
    if Path(path).is_dir():
        raise IsADirectoryError(f"{flag} {path} is a folder: name a file in it")
    if not folder.is_dir():
        raise FileNotFoundError(f"{flag} {path}: there is no folder {folder}; create it first")


def check_folder(flag: str, path: str | os.PathLike) -> None:
    """Raises ValueError for a folder whose name would not survive in a prototxt or in a list of files."""
    if wrong := next((sign for sign in ',"\\\n' if sign in str(path)), None):
        raise ValueError(f"{flag} {path}: a folder of jobs cannot have {wrong!r} in its path")


def named_twice(names: Iterable[str]) -> str | None:
    """The first of them that is not there once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def comma_list(text: str) -> list[str]:
    """argparse type of Caffe's lists: "a,b" -> ["a", "b"]."""
    return [word for word in text.split(",") if word]


def device(
    gpu: str | None, asked: str | None = None, cure: str = "leave -gpu out to run on the CPU"
) -> "torch.device":
    """The device of a -gpu flag: the CPU without one. ValueError if there is no such GPU, or for several.

    `asked` is what the user wrote and `cure` how to take it back, where that was not the flag.
    """
    found = devices(gpu, asked, cure)
    if len(found) > 1:
        raise ValueError(f"{asked or f'-gpu {gpu}'} means {len(found)} devices; this runs on one: name it")
    return found[0]


def devices(
    gpu: str | None, asked: str | None = None, cure: str = "leave -gpu out to run on the CPU"
) -> "list[torch.device]":
    """The devices of a -gpu flag, as `device`; several for `all` or a list."""
    import torch  # here, so that the data tools start without it

    if gpu is None:
        return [torch.device("cpu")]
    asked = asked or f"-gpu {gpu}"
    if not torch.cuda.is_available():
        raise ValueError(f"{asked}: torch finds no CUDA device here; {cure}")
    found = torch.cuda.device_count()
    ids = [str(i) for i in range(found)] if gpu == "all" else comma_list(gpu)
    if not ids or not all(name.isdecimal() and int(name) < found for name in ids):
        raise ValueError(f"{asked}: no such device; there are {found}, counted from 0")
    return [torch.device("cuda", int(name)) for name in ids]


def device_note(where: "torch.device") -> str:
    """Caffe's line about it."""
    return "Use CPU." if where.type == "cpu" else f"Use GPU with device ID {where.index}"
