"""Scenes out of a small data folder of Wesnoth's form: tiles of one colour, maps of few terrains."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from crnn.data_tools import wesnoth_scenes
from crnn.data_tools._hexmap import NONE, Terrains, draw, read_map

TERRAINS = """
[terrain_type]
    symbol_image=grass/green
    name= _ "Grassland"
    string=Gg
    editor_group=flat
[/terrain_type]
[terrain_type]
    symbol_image=water/ocean-tile
    string=Wo
    editor_group=water, frozen
[/terrain_type]
[terrain_type]
    symbol_image=void
    editor_image=void-editor
    string=Xv
    editor_group=obstacle
[/terrain_type]
[terrain_type]
    editor_image=forest
    string=^Fp
    editor_group=forest
[/terrain_type]
"""
COLOURS = {"grass/green": (0, 200, 0), "water/ocean-tile": (200, 0, 0), "void-editor": (9, 9, 9)}


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "wesnoth"
    for name, colour in {**COLOURS, "forest": (0, 0, 250)}.items():
        tile = np.zeros((72, 72, 4), np.uint8)
        tile[..., :3], tile[..., 3] = colour, 255
        if name == "forest":
            tile[:36, :, 3] = 0  # the overlay shows its base in the upper half
        path = folder / "core" / "images" / "terrain" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), tile)
    (folder / "core" / "terrain.cfg").write_text(TERRAINS)
    (folder / "multiplayer" / "maps").mkdir(parents=True)
    return folder


def put_map(data, name: str, code: str, rows: int = 12, columns: int = 14) -> None:
    text = "\n".join([", ".join([f"1 {code}", *[code] * (columns - 1)])] * rows)
    (data / "multiplayer" / "maps" / f"{name}.map").write_text(f"border_size=1\nusage=map\n\n{text}\n")


def test_a_map_is_rows_of_codes_without_heads_and_players():
    assert read_map("border_size=1\n\n1 Gg, Wo, Wo, Wo\nGg, Gg^Fp, 2 Gg, Wo, Wo\n") == [
        ["Gg", "Wo", "Wo", "Wo"],
        ["Gg", "Gg^Fp", "Gg", "Wo"],
    ]


def test_tiles_lie_on_hexagons_and_give_their_group(data):
    terrains = Terrains(data)
    codes = [["Gg"] * 5, ["Gg", "Gg", "Wo", "Gg", "Gg"], ["Gg"] * 5, ["Gg"] * 5]
    picture, groups = draw(codes, terrains, 0)
    y, x = 72 + 36 - 72 + 35, 54 * 2 - 54 + 36  # an even column stands half a tile lower; less the border
    assert picture[y, x].tolist() == list(COLOURS["water/ocean-tile"])
    assert terrains.groups[groups[y, x]] == "water"
    assert terrains.groups[groups[y, x - 54]] == "flat"


def test_an_overlay_lies_on_its_base(data):
    terrains = Terrains(data)
    picture, groups = draw([["Gg^Fp"] * 6] * 5, terrains, 0)
    found = {terrains.groups[group] for group in np.unique(groups) if group != NONE}
    assert found == {"flat", "forest"}
    assert {tuple(colour) for colour in np.unique(picture.reshape(-1, 3), axis=0).tolist()} >= {
        (0, 200, 0),
        (0, 0, 250),
    }


def test_labels_are_the_dominant_terrain_and_obstacles_are_dropped(data, tmp_path, contents):
    for i, code in enumerate(["Gg", "Wo", "Wo", "Xv"]):
        put_map(data, f"2p_{'abcd'[i]}", code)
    out = tmp_path / "out"
    assert wesnoth_scenes.main([str(out), "--source", str(data)]) == 0
    assert (out / "labels.txt").read_text().splitlines() == list(wesnoth_scenes.CLASSES)
    train, test = contents(out / "train_lmdb"), contents(out / "test_lmdb")
    labels = {key[9:].split("_0")[0]: datum.label for key, datum in train + test}
    assert labels == {"2p_a": 1, "2p_b": 0, "2p_c": 0}
    assert {(datum.channels, datum.height, datum.width) for _, datum in train + test} == {(3, 108, 108)}


def test_a_landscape_is_in_one_part_only(data, tmp_path, contents):
    names = ["2p_A", "3p_A", "B_rain", "B_secondsnow", "B_basic", "C", "9p_C", "D", "E"]
    for name in names:
        put_map(data, name, "Gg")
    wesnoth_scenes.main([str(tmp_path / "out"), "--source", str(data)])
    parts = [
        {key[9:].rsplit("_", 2)[0] for key, _ in contents(tmp_path / "out" / f"{part}_lmdb")}
        for part in ("train", "test")
    ]
    assert parts == [set(names) - {"C", "9p_C"}, {"C", "9p_C"}]


def test_equal_maps_are_drawn_alike(data):
    first, second = (draw([["Gg", "Wo"] * 4] * 6, Terrains(data), 7)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"is no data folder of Wesnoth: it lacks one of core/terrain\.cfg"):
        wesnoth_scenes.main([str(tmp_path / "out"), "--source", str(tmp_path)])


def test_the_debian_package_where_nothing_is_there(data, tmp_path, monkeypatch):
    """An apt-get and a dpkg-deb of our own, the latter unpacking the small folder."""
    put_map(data, "a", "Gg")
    put_map(data, "b", "Gg")
    put_map(data, "c", "Gg")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "apt-get": "touch wesnoth-1.16-data_1_all.deb",
        "dpkg-deb": f'mkdir -p "$3/data"; cp -r {data}/. "$3/data"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(wesnoth_scenes, "INSTALLED", Path("/data"))
    assert wesnoth_scenes.main([str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "download" / "core" / "terrain.cfg").exists()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert wesnoth_scenes.main([str(tmp_path / "again"), "--cache", str(tmp_path / "out" / "download")]) == 0


def test_label_maps_tell_the_terrain_of_each_pixel(data, tmp_path, contents):
    """Water and grass, alone and with a forest that leaves the upper half of a hexagon free."""
    for name, code in (("A", "Wo"), ("B", "Wo^Fp"), ("C", "Gg"), ("D", "Gg^Fp")):
        put_map(data, name, code)
    out = tmp_path / "out"
    assert wesnoth_scenes.main([str(out), "--source", str(data), "--maps"]) == 0
    assert (out / "map_labels.txt").read_text().splitlines() == list(wesnoth_scenes.MAP_CLASSES)
    seen = {}
    for part in ("train", "test"):
        images, maps = contents(out / f"{part}_lmdb"), contents(out / f"{part}_maps_lmdb")
        assert [key for key, _ in images] == [key for key, _ in maps]
        for (key, image), (_, labels) in zip(images, maps, strict=True):
            pixels = np.frombuffer(image.data, np.uint8).reshape(3, 108, 108)
            classes = np.frombuffer(labels.data, np.uint8).reshape(108, 108)
            seen.setdefault(key[9], set()).update(np.unique(classes).tolist())
            for (b, g, r), label in {(200, 0, 0): 0, (0, 200, 0): 1, (0, 0, 250): 6}.items():
                pure = (pixels == np.array([b, g, r])[:, None, None]).all(0)
                assert not pure.any() or (classes[pure] == label).mean() > 0.95
    assert wesnoth_scenes.MAP_CLASSES.index("forest") == 6
    assert seen == {"A": {0}, "B": {0, 6}, "C": {1}, "D": {1, 6}}
