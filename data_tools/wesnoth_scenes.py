"""Battle for Wesnoth's multiplayer maps: some 3,000 colour scenes of five terrains, cut from drawn maps.

The 65 maps and the tiles come from the game's data (GPL-2+): --source, a folder with core/ and multiplayer/;
or the cache, the installed Debian package wesnoth-1.16-data, or that package downloaded and unpacked (146 MB,
needs no root), whichever is there first.

A scene is a window of 432 x 432 pixels (8 x 6 hexagons), every 216 pixels, reduced to 108 x 108. Its label is
the terrain that covers most of it: water, flat, desert, frozen or cave; windows of another terrain, or with
more than a fifth of the picture without terrain, are left out. Windows overlap, so whole maps go to one part,
and so do maps that are one landscape for other numbers of players or in other weather: of the 53 landscapes,
by name, the third of every four goes to the test.

With --maps each scene also has a label map, the terrain of every pixel: the five and embellishments, forest,
rough, village and castle; 255, not counted, for all else.

Writes OUT/train_lmdb and OUT/test_lmdb, both shuffled, and OUT/labels.txt; with --maps OUT/train_maps_lmdb,
OUT/test_maps_lmdb of the same keys, and OUT/map_labels.txt.

  crnn data convert wesnoth-scenes data/wesnoth
"""

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from crnn.data_tools import _convert
from crnn.data_tools._debian import downloaded
from crnn.data_tools._hexmap import NONE, Terrains, draw, read_map
from crnn.data_tools._images import Record
from crnn.data_tools._write import Database

NAME = "wesnoth-scenes"
CLASSES = ("water", "flat", "desert", "frozen", "cave")
MAP_CLASSES = (*CLASSES, "embellishments", "forest", "rough", "village", "castle")
PACKAGE = "wesnoth-1.16-data"
INSTALLED = Path("/usr/share/games/wesnoth/1.16/data")
WINDOW, REDUCED = 432, 4
TEST_EVERY, TEST_PLACE = 4, 2  # so that the test has scenes of every class
_VERSION = re.compile(r"^\d+p_|_(?:basic|drought|(?:first|second)?(?:rain|snow))$")
PARTS = ("core/terrain.cfg", "core/images/terrain", "multiplayer/maps")  # that are used and kept


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write in")
    parser.add_argument("--source", type=Path, metavar="DIR", help="Wesnoth's data folder")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keeps downloads (default OUT/download)")
    parser.add_argument("--maps", action="store_true", help="databases of label maps, too")
    parser.set_defaults(shuffle=True)


def databases(args: argparse.Namespace) -> list[Database]:
    data = obtain(args.source, args.cache or args.out / "download")
    args.out.mkdir(parents=True, exist_ok=True)
    for file, names in [("labels.txt", CLASSES), ("map_labels.txt", MAP_CLASSES)][: 1 + args.maps]:
        (args.out / file).write_text("".join(f"{name}\n" for name in names))
    found: dict[str, list[Record]] = {"train": [], "test": []}
    terrains = Terrains(data)
    paths = sorted((data / "multiplayer" / "maps").glob("*.map"))
    landscapes = sorted({landscape(path) for path in paths})
    for number, path in enumerate(paths):
        part = "test" if landscapes.index(landscape(path)) % TEST_EVERY == TEST_PLACE else "train"
        found[part] += scenes(path, terrains, number)
    made = [Database(args.out / f"{part}_lmdb", found[part], classes=len(CLASSES)) for part in found]
    if args.maps:
        kinds = {"beside": True, "map_classes": len(MAP_CLASSES)}
        made += [Database(args.out / f"{part}_maps_lmdb", found[part], **kinds) for part in found]
    return made


def landscape(path: Path) -> str:
    """A map's name without its number of players and its weather."""
    return _VERSION.sub("", path.stem)


def scenes(path: Path, terrains: Terrains, seed: int) -> Iterator[Record]:
    """The labelled windows of a map, named MAP_ROW_COLUMN, each with its label map."""
    import cv2

    classes = np.full(NONE + 1, NONE, np.uint8)  # of a terrain group
    for i, name in enumerate(MAP_CLASSES):
        if name in terrains.groups:
            classes[terrains.groups.index(name)] = i

    codes = read_map(path.read_text(encoding="utf-8", errors="replace"))
    if len(codes) < WINDOW // 54:
        return
    picture, groups = draw(codes, terrains, seed)
    small = WINDOW // REDUCED
    for y in range(0, picture.shape[0] - WINDOW + 1, WINDOW // 2):
        for x in range(0, picture.shape[1] - WINDOW + 1, WINDOW // 2):
            window = slice(y, y + WINDOW), slice(x, x + WINDOW)
            counts = np.bincount(groups[window].ravel(), minlength=NONE + 1)
            name = terrains.groups[counts[:NONE].argmax()] if counts[:NONE].any() else ""
            if name in CLASSES and counts[NONE] <= 0.2 * WINDOW**2 and counts[:NONE].max() > counts[NONE]:
                image = cv2.resize(picture[window], (small, small), interpolation=cv2.INTER_AREA)
                labels = classes[groups[window]][REDUCED // 2 :: REDUCED, REDUCED // 2 :: REDUCED]
                yield Record(f"{path.stem}_{y:04d}_{x:04d}", image, CLASSES.index(name), labels)


def obtain(source: Path | None, cache: Path) -> Path:
    """The data folder, from the first place that has it. Raises OSError naming every place that was tried."""
    places = [source] if source else [cache, INSTALLED]
    for place in places:
        if all((place / part).exists() for part in PARTS):
            print(f"Wesnoth's maps from {place}")
            return place
    if source:
        raise OSError(f"{source} is no data folder of Wesnoth: it lacks one of {', '.join(PARTS)}")
    print(f"Downloading the Debian package {PACKAGE} (146 MB)", flush=True)
    try:
        with downloaded(PACKAGE) as root:
            _keep(Path(f"{root}{INSTALLED}"), cache)
    except OSError as error:
        tried = ", ".join(map(str, places))
        raise OSError(
            f"Wesnoth's maps could not be obtained: name their data folder by --source. There is nothing in "
            f"{tried}; apt-get download {PACKAGE}: {error}"
        ) from None
    return cache


def _keep(data: Path, cache: Path) -> None:
    """Copies what is used to the cache, whole or not at all."""
    partial = cache.with_name(f"{cache.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for part in PARTS:
        (partial / part).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (data / part).is_dir() else shutil.copy)(data / part, partial / part)
    os.replace(partial, cache)


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
