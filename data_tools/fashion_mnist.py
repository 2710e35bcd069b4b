"""Fashion-MNIST, 60,000 + 10,000 grey images 28 x 28 of ten kinds of clothing, becomes two LMDBs.

Writes OUT/train_lmdb and OUT/test_lmdb, both shuffled, and OUT/labels.txt. The set's four files come from
--source; or from the cache, an installed Debian package dataset-fashion-mnist, that package downloaded and
unpacked (needs no root), or the authors' address, whichever has them first. Each is checked against its
sha256.

  crnn data convert fashion-mnist data/fashion-mnist
"""

import argparse
import gzip
import hashlib
import http.client
import os
import shutil
import struct
import sys
import tempfile
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from crnn.data_tools import _convert
from crnn.data_tools._debian import downloaded
from crnn.data_tools._images import Record
from crnn.data_tools._write import Database

NAME = "fashion-mnist"
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
PACKAGE = "dataset-fashion-mnist"
INSTALLED = Path("/usr/share/datasets/fashion-mnist")
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"

#: sha256 of each file unpacked: Debian's gzip wrapping differs from the authors'.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write in")
    parser.add_argument("--source", type=Path, metavar="DIR", help="folder with the four .gz files")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps downloads (default OUT/download)")
    parser.set_defaults(shuffle=True)


def databases(args: argparse.Namespace) -> list[Database]:
    files = obtain(args.source, args.cache or args.out / "download")
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "labels.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return [
        Database(args.out / "train_lmdb", _records(files, "train"), classes=len(CLASSES), official=60_000),
        Database(args.out / "test_lmdb", _records(files, "t10k"), classes=len(CLASSES), official=10_000),
    ]


def _records(files: dict[str, bytes], prefix: str) -> list[Record]:
    images, labels = idx(files[f"{prefix}-images-idx3-ubyte"]), idx(files[f"{prefix}-labels-idx1-ubyte"])
    slugs = [name.replace("/", "-").replace(" ", "-") for name in CLASSES]
    return [
        Record(f"{slugs[label]}_{i:05d}", image, label)
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True))
    ]


def idx(data: bytes) -> np.ndarray:
    """The array of an idx file: two zeros, 8 for uint8, the number of dimensions, these, the values."""
    zeros, kind, dims = struct.unpack_from(">HBB", data)
    shape = struct.unpack_from(f">{dims}I", data, 4)
    if zeros or kind != 8:
        raise ValueError(f"not an idx file of bytes: it starts with {data[:4].hex()}")
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dims).reshape(shape)


def obtain(source: Path | None, cache: Path) -> dict[str, bytes]:
    """The four files unpacked, from the first place that has them whole.

    Raises OSError naming every place and why it failed.
    """
    if source is not None:
        return load(source)
    places: dict[str, Callable[[], dict[str, bytes]]] = {
        str(cache): lambda: load(cache),
        f"the installed package {PACKAGE} ({INSTALLED})": lambda: load(INSTALLED),
        f"apt-get download {PACKAGE}": lambda: from_debian(cache),
        ADDRESS: lambda: from_authors(cache),
    }
    reasons = []
    for place, fetch in places.items():
        try:
            files = fetch()
        except OSError as error:
            reasons.append(f"{place}: {error}")
        else:
            print(f"Fashion-MNIST from {place}")
            return files
    tried = "; ".join(reasons)
    raise OSError(
        f"Fashion-MNIST could not be obtained: name a folder with its files by --source. Tried {tried}"
    )


def load(folder: Path) -> dict[str, bytes]:
    """The four files of a folder, unpacked. Raises OSError for one that is missing or not as published."""
    files = {}
    for name, digest in SHA256.items():
        path = folder / f"{name}.gz"
        if not path.is_file():
            raise OSError(f"there is no {path}")
        try:
            files[name] = gzip.decompress(path.read_bytes())
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(f"{path} is damaged ({error}): remove it") from None
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise OSError(f"{path} is not the published file (its sha256 differs): remove it")
    return files


def from_debian(cache: Path) -> dict[str, bytes]:
    print(f"Downloading the Debian package {PACKAGE} (31 MB)", flush=True)
    with downloaded(PACKAGE) as root:
        return _keep(Path(f"{root}{INSTALLED}"), cache)


def from_authors(cache: Path) -> dict[str, bytes]:
    print(f"Downloading from {ADDRESS} (31 MB)", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in SHA256:
            try:
                with urllib.request.urlopen(f"{ADDRESS}{name}.gz", timeout=30) as answer:
                    Path(scratch, f"{name}.gz").write_bytes(answer.read())
            except http.client.HTTPException as error:
                raise OSError(f"{name}.gz came broken ({error})") from None
        return _keep(Path(scratch), cache)


def _keep(folder: Path, cache: Path) -> dict[str, bytes]:
    """Loads the files of `folder` and, good as they are, copies them to the cache."""
    files = load(folder)
    cache.mkdir(parents=True, exist_ok=True)
    for name in SHA256:
        shutil.copyfile(folder / f"{name}.gz", cache / f"{name}.gz.partial")
        os.replace(cache / f"{name}.gz.partial", cache / f"{name}.gz")
    return files


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
