"""The emoji set out of a small package of the same form: who goes to the test, and what a picture becomes."""

import json

import cv2
import numpy as np
import pytest

from crnn.data.label_tree import read_tree
from crnn.data_tools import emoji
from crnn.proto.blobs import read_mean

PEOPLE = ("People & Body", "person")


def row(order: int, image: str, kind: tuple[str, str], tones=(), has=True) -> dict:
    variations = {t: {"image": f"{image}-{t}.png", "has_img_google": True} for t in tones}
    names = {"category": kind[0], "subcategory": kind[1]}
    return {
        "image": f"{image}.png",
        "sort_order": order,
        "has_img_google": has,
        **names,
        "skin_variations": variations,
    }


ROWS = [
    row(3, "1f469-200d-1f680", PEOPLE, ["1f3fb"]),  # her man comes first: one base
    row(2, "1f468-200d-1f680", PEOPLE),
    row(1, "1f600", ("Smileys", "face")),
    row(4, "1f9b8", PEOPLE, ["1f3fc", "1f3fd"]),
    row(5, "1f9b9", PEOPLE, ["1f3fc"]),  # the third base of its subcategory: all of it to the test
    row(6, "1f9ba", PEOPLE, has=False),
    row(7, "1f345", ("Food", "fruit")),
]


@pytest.fixture
def package(unpack, tmp_path):
    pictures = [r["image"] for r in ROWS] + [v["image"] for r in ROWS for v in r["skin_variations"].values()]
    files = {emoji.LIST: json.dumps(ROWS).encode()}
    for i, name in enumerate(pictures):
        image = np.full((64, 64, 4), (i, 100, 200, 255), np.uint8)
        image[:, 32:, 3] = 0
        files[f"{emoji.PICTURES}/{name}"] = cv2.imencode(".png", image)[1].tobytes()
    unpack(tmp_path / "in", files)
    return tmp_path / "in", files


def names(records) -> set[str]:
    return {key[9:] for key, _ in records}


def test_variants_of_one_base_stay_together(package, tmp_path, contents):
    assert emoji.main([str(tmp_path / "out"), "--source", str(package[0])]) == 0
    train, test = (contents(tmp_path / f"out/{part}_lmdb") for part in ("train", "test"))
    assert names(test) == {"1f9b9", "1f9b9-1f3fc"}
    assert names(train) == {
        *("1f600", "1f345", "1f468-200d-1f680", "1f469-200d-1f680", "1f469-200d-1f680-1f3fb"),
        *("1f9b8", "1f9b8-1f3fc", "1f9b8-1f3fd"),
    }


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ("1f3c3-1f3fb-200d-2640-fe0f-200d-27a1-fe0f.png", "1f3c3"),
        ("1f469-1f3ff-200d-1f680.png", "1f9d1-1f680"),
        ("1f1e9-1f1ea.png", "1f1e9-1f1ea"),
        ("1f3fb.png", ""),
    ],
)
def test_the_base_of_a_picture(image, base):
    assert emoji.base(image) == base


def test_labels_and_their_paths_have_the_same_keys(package, tmp_path, contents):
    emoji.main([str(tmp_path / "out"), "--source", str(package[0])])
    tree = read_tree(tmp_path / "out/tree.txt")
    assert tree.names == ("Food", "People & Body", "Smileys", "face", "fruit", "person")
    assert (tmp_path / "out/labels.txt").read_text().splitlines() == ["face", "fruit", "person"]
    for part in ("train", "test"):
        images = contents(tmp_path / f"out/{part}_lmdb")
        sequences = contents(tmp_path / f"out/{part}_paths_lmdb")
        assert [key for key, _ in images] == [key for key, _ in sequences]
        assert [d.label for _, d in images] == [d.label for _, d in sequences]
        assert all(list(d.float_data) == tree.path(d.label) for _, d in sequences)


def test_a_picture_is_laid_on_white_and_halved(package, tmp_path, contents):
    emoji.main([str(tmp_path / "out"), "--source", str(package[0])])
    ((_, datum),) = [one for one in contents(tmp_path / "out/train_lmdb") if one[0][9:] == "1f600"]
    pixels = np.frombuffer(datum.data, np.uint8).reshape(3, 32, 32)
    assert pixels[:, 0, 0].tolist() == [2, 100, 200] and pixels[:, 0, 31].tolist() == [255] * 3
    assert read_mean(tmp_path / "out/mean.binaryproto").shape == (3, 32, 32)


def test_the_archive_is_read_as_it_is(package, tar, tmp_path, contents):
    tar(tmp_path / emoji.ARCHIVE, package[1])
    for out, source in (("a", tmp_path / emoji.ARCHIVE), ("b", package[0])):
        emoji.main([str(tmp_path / out), "--source", str(source)])
    assert contents(tmp_path / "a/train_lmdb") == contents(tmp_path / "b/train_lmdb")


def test_npm_where_nothing_is_there(package, tar, tmp_path, monkeypatch):
    """A stand-in for npm that leaves the archive in its folder."""
    tar(tmp_path / emoji.ARCHIVE, package[1])
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\ncp {tmp_path}/{emoji.ARCHIVE} .\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert emoji.main([str(tmp_path / "out")]) == 0
    assert (tmp_path / "said").read_text() == "pack --silent emoji-datasource-google@16.0.0\n"
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert emoji.main([str(tmp_path / "again"), "--cache", str(tmp_path / "out/download")]) == 0
    with pytest.raises(OSError, match=r"npm, which fetches .*\.tgz, is not installed: name the file"):
        emoji.main([str(tmp_path / "third")])


def test_what_is_no_such_package(tmp_path, unpack):
    with pytest.raises(OSError, match=r"is neither emoji-datasource-google-16\.0\.0\.tgz nor a folder with"):
        emoji.main([str(tmp_path / "out"), "--source", str(tmp_path)])
    unpack(tmp_path, {emoji.LIST: b"[{}]"})
    with pytest.raises(ValueError, match=r"emoji\.json is not the list of .* 16\.0\.0: 'has_img_google'"):
        emoji.main([str(tmp_path / "out"), "--source", str(tmp_path)])
