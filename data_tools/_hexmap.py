"""Battle for Wesnoth's maps as pictures: hexagons of terrain drawn from the game's own tiles.

Simplified: one tile a hexagon, an overlay on its base, no transitions between terrains. A map is drawn with
72 x 72 tiles whose columns stand 54 pixels apart, every second one half a tile lower.
"""

import random
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

TILE, COLUMN = 72, 54
NONE = 255  # a pixel without terrain
OPAQUE = 100  # of alpha: from here a tile counts as covering a pixel
_TYPE = re.compile(r"\[terrain_type\](.*?)\[/terrain_type\]", re.DOTALL)
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*(.*?)\s*$", re.MULTILINE)
_START = re.compile(r"^\S+ ")  # "1 Ke": where a player starts


class Terrains:
    """The terrain codes of a Wesnoth data folder, with their groups and tiles."""

    def __init__(self, data: Path):
        self.images = data / "core" / "images" / "terrain"
        self.fields: dict[str, dict[str, str]] = {}
        for body in _TYPE.findall((data / "core" / "terrain.cfg").read_text(encoding="utf-8")):
            fields = {name: value.strip('"') for name, value in _FIELD.findall(body)}
            if "string" in fields:
                self.fields[fields["string"]] = fields
        self._tiles: dict[str, np.ndarray | None] = {}

    @cached_property
    def groups(self) -> list[str]:
        """Their names, in the order of terrain.cfg."""
        return list(dict.fromkeys(self._group(fields) for fields in self.fields.values()))

    @staticmethod
    def _group(fields: dict[str, str]) -> str:
        return fields.get("editor_group", "").partition(",")[0]

    def layers(self, code: str, rng: random.Random) -> Iterator[tuple[int, np.ndarray]]:
        """(group, tile BGRA [h, w, 4]) of a code such as "Gg^Fp": its base, then its overlay."""
        base, _, overlay = code.partition("^")
        for part in ([base] if base else []) + ([f"^{overlay}"] if overlay else []):
            fields = self.fields.get(part) or self.fields.get(code)
            tile = self._choose(fields, rng) if fields else None
            if tile is not None:
                yield self.groups.index(self._group(fields)), tile

    def _choose(self, fields: dict[str, str], rng: random.Random) -> np.ndarray | None:
        """The terrain's tile, one of its numbered variants where it has some."""
        name = (fields.get("editor_image") or fields.get("symbol_image") or "").partition("~")[0]
        if not name:
            return None
        names = [name]
        if "editor_image" not in fields and not name.endswith("-tile"):
            names += [f"{name}{i}" for i in range(2, 9) if (self.images / f"{name}{i}.png").exists()]
        return self._tile(rng.choice(names))

    def _tile(self, name: str) -> np.ndarray | None:
        import cv2

        if name not in self._tiles:
            path = self.images / f"{name}.png"
            tile = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.exists() else None
            if tile is not None and tile.shape[-1] == 3:
                tile = cv2.cvtColor(tile, cv2.COLOR_BGR2BGRA)
            self._tiles[name] = tile
        return self._tiles[name]


def read_map(text: str) -> list[list[str]]:
    """The codes of a .map file, row by row, of equal length."""
    lines = [line.strip() for line in text.splitlines()]
    rows = [
        [_START.sub("", cell.strip()) for cell in line.split(",")]
        for line in lines
        if line.count(",") > 2 and "=" not in line.partition(",")[0]
    ]
    width = min(map(len, rows), default=0)
    return [row[:width] for row in rows]


def draw(codes: list[list[str]], terrains: Terrains, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(picture BGR [H, W, 3], terrain group of each pixel or NONE [H, W]), uint8, without the border."""
    rng, rows, columns = random.Random(seed), len(codes), len(codes[0])
    picture = np.zeros((TILE * rows + TILE // 2, COLUMN * columns + TILE - COLUMN, 3), np.uint8)
    groups = np.full(picture.shape[:2], NONE, np.uint8)
    for i, row in enumerate(codes):
        for j, code in enumerate(row):
            y, x = TILE * i + (TILE if j % 2 == 0 else TILE // 2), COLUMN * j + TILE // 2  # the centre
            for group, tile in terrains.layers(code, rng):
                _put(picture, groups, tile, group, y - tile.shape[0] // 2, x - tile.shape[1] // 2)
    inner = slice(TILE, picture.shape[0] - TILE), slice(COLUMN, picture.shape[1] - COLUMN)
    return picture[inner], groups[inner]


def _put(picture: np.ndarray, groups: np.ndarray, tile: np.ndarray, group: int, y: int, x: int) -> None:
    """Lays a tile over the picture; one that would stick out is left away."""
    h, w = tile.shape[:2]
    if y < 0 or x < 0 or y + h > picture.shape[0] or x + w > picture.shape[1]:
        return
    place = slice(y, y + h), slice(x, x + w)
    alpha = tile[..., 3:].astype(np.uint16)
    over = tile[..., :3] * alpha + picture[place] * (255 - alpha)
    picture[place] = (over + 127) // 255
    groups[place][tile[..., 3] > OPAQUE] = group
