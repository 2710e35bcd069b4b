"""SUN397, MIT indoor and Places205 out of small files of the same form."""

import io
import zipfile

import pytest

from crnn.data_tools import mit67, places205, sun397
from crnn.data_tools._manifest import read_manifest

SUN = ["a/abbey", "a/apartment_building/outdoor", "b/bow_window/indoor"]
SMALL = ["--resize-width=8", "--resize-height=6"]


def labels(contents, path) -> dict[str, int]:
    """name -> label of a database."""
    return {key[9:]: datum.label for key, datum in contents(path)}


# ---- SUN397 ----


@pytest.fixture
def sun(photo, tar, tmp_path):
    """The official archives with two partitions; one image is damaged."""
    names = {scene: [f"{scene}/sun_{scene[2]}{i}.jpg" for i in range(4)] for scene in SUN}
    files = {f"SUN397/{name}": photo(i, 9, 12) for scene in SUN for i, name in enumerate(names[scene])}
    files["SUN397/a/abbey/sun_a0.jpg"] = b"a page, no image..."
    tar(tmp_path / "sun/SUN397.tar.gz", files)
    lists = {"ClassName.txt": "\r\n".join(f"/{scene}" for scene in SUN)}
    for number in (1, 2):
        for part, first in (("Training", 0), ("Testing", 2)):
            picked = [names[scene][(first + number + i) % 4] for scene in SUN for i in (0, 1)]
            lists[f"{part}_{number:02d}.txt"] = "\n".join(f"/{name}" for name in picked)  # no last newline
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in lists.items():
            archive.writestr(f"Partitions/{name}", text)
    (tmp_path / "sun/Partitions.zip").write_bytes(packed.getvalue())
    return tmp_path / "sun", files, lists


def test_sun397_has_databases_for_each_partition(sun, tmp_path, contents):
    source, _, _ = sun
    assert sun397.main([str(source), str(tmp_path / "out"), "--partitions=1,2", *SMALL]) == 0
    assert (tmp_path / "out/labels.txt").read_text().splitlines() == SUN
    first = labels(contents, tmp_path / "out/partition_01/train_lmdb")
    assert first == {f"{scene}/sun_{scene[2]}{i}.jpg": SUN.index(scene) for scene in SUN for i in (1, 2)}
    second = labels(contents, tmp_path / "out/partition_02/test_lmdb")
    assert set(second) == {f"{s}/sun_{s[2]}{i}.jpg" for s in SUN for i in (0, 1)} - {"a/abbey/sun_a0.jpg"}
    manifest = read_manifest(tmp_path / "out/partition_02/test_lmdb")
    assert manifest["skipped"][0][1:] == ["a/abbey/sun_a0.jpg", "an image of 19 bytes that cannot be decoded"]
    assert (tmp_path / "out/partition_02/mean.binaryproto").exists()
    with pytest.raises(FileExistsError, match="train_lmdb exists"):
        sun397.main([str(source), str(tmp_path / "out"), "--partitions=1,2", *SMALL])
    assert not (tmp_path / "out/.unpacked").exists()


def test_sun397_unpacked_gives_the_same(sun, unpack, tmp_path, contents):
    source, files, lists = sun
    unpack(tmp_path / "folder", files)
    unpack(tmp_path / "folder", {f"Partitions/{name}": text.encode() for name, text in lists.items()})
    for where, out in ((source, "a"), (tmp_path / "folder", "b")):
        sun397.main([str(where), str(tmp_path / out), "--partitions=2", *SMALL])
    for part in ("train_lmdb", "test_lmdb"):
        assert contents(tmp_path / f"a/partition_02/{part}") == contents(tmp_path / f"b/partition_02/{part}")


def test_sun397_lists_that_do_not_fit(sun, tmp_path):
    source, _, _ = sun
    with pytest.raises(FileNotFoundError, match=r"holds no Training_03\.txt, nor a Partitions\.zip with it"):
        sun397.main([str(source), str(tmp_path / "out"), "--partitions=3"])
    (source / "Training_01.txt").write_text("/z/zoo/sun_1.jpg\n")
    with pytest.raises(ValueError, match=r"Training_01\.txt: '/z/zoo/sun_1\.jpg' is in no class"):
        sun397.main([str(source), str(tmp_path / "out"), "--partitions=1"])
    (source / "Training_01.txt").write_text("/a/abbey/../../../secret.jpg\n")
    with pytest.raises(ValueError, match="is in no class"):
        sun397.main([str(source), str(tmp_path / "out"), "--partitions=1"])


# ---- MIT indoor ----


def test_mit67_by_its_lists(photo, tar, unpack, tmp_path, contents):
    names = ["airport_inside/airport inside 01.jpg", "bar/b_0001.jpg", "warehouse/w.jpg", "warehouse/x y.jpg"]
    files = {f"Images/{name}": photo(i, 9, 12) for i, name in enumerate(names)}
    files["Images/bar/b_0001.jpg"] = photo(9, 9, 12, "png")
    tar(tmp_path / "in/indoorCVPR_09.tar", files)
    train = f"{names[3]}\r\n{names[0]}\r\n{names[1]}"
    unpack(tmp_path / "in", {"TrainImages.txt": train.encode(), "TestImages.txt": f"{names[2]}\n".encode()})
    assert mit67.main([str(tmp_path / "in"), str(tmp_path / "out"), *SMALL]) == 0
    got = labels(contents, tmp_path / "out/train_lmdb")
    assert got == {names[0]: 0, names[1]: 1, names[3]: 2}
    assert labels(contents, tmp_path / "out/test_lmdb") == {names[2]: 2}
    oddity = read_manifest(tmp_path / "out/train_lmdb")["oddities"][0]
    assert oddity[1:] == ["bar/b_0001.jpg", "a PNG"]
    unpack(
        tmp_path / "folder", {name: (tmp_path / "in" / name).read_bytes() for name in mit67.LISTS.values()}
    )
    unpack(tmp_path / "folder", files)
    mit67.main([str(tmp_path / "folder"), str(tmp_path / "again"), *SMALL])
    assert contents(tmp_path / "again/train_lmdb") == contents(tmp_path / "out/train_lmdb")


def test_mit67_without_a_list(unpack, photo, tmp_path):
    unpack(tmp_path / "in", {"Images/bar/a.jpg": photo(1), "TrainImages.txt": b"bar/a.jpg"})
    with pytest.raises(FileNotFoundError, match=r"holds no TestImages\.txt: --help says where"):
        mit67.main([str(tmp_path / "in"), str(tmp_path / "out")])


# ---- Places205 ----


@pytest.fixture
def places(photo, tar, tmp_path):
    scenes = ["a/abbey", "a/airport_terminal", "y/yard"]
    files = {f"{places205.IMAGES}/{s}/gsun_{i}.jpg": photo(i, 8, 8) for s in scenes for i in range(3)}
    train = "".join(f"{s}/gsun_{i}.jpg {label}\n" for label, s in enumerate(scenes) for i in (2, 0))
    val = "".join(f"{s}/gsun_1.jpg {label}\n" for label, s in enumerate(scenes))
    lists = {"train_places205.csv": train.encode(), "val_places205.csv": val.encode()}
    tar(
        tmp_path / "in/trainvalsplit_places205.tar.gz",
        {f"{places205.SPLIT}/{n}": t for n, t in lists.items()},
    )
    tar(tmp_path / "in/imagesPlaces205_resize.tar.gz", files)
    return tmp_path / "in", scenes


def test_places205_by_its_lists(places, tmp_path, contents):
    source, scenes = places
    assert places205.main([str(source), str(tmp_path / "out"), *SMALL]) == 0
    got = labels(contents, tmp_path / "out/train_lmdb")
    assert got == {f"{s}/gsun_{i}.jpg": label for label, s in enumerate(scenes) for i in (0, 2)}
    assert len(contents(tmp_path / "out/val_lmdb")) == 3
    assert (tmp_path / "out/labels.txt").read_text().splitlines() == scenes


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("y/yard/gsun_0.jpg 1", "label 1 is y/yard and, with a/airport_terminal/gsun_1.jpg, a/airport_t"),
        ("y/yard/gsun_0.jpg 7", "the lists have 4 labels from 0 to 7"),
        ("y/yard/gsun_0.jpg", "train_places205.csv:1: .* is not `path label`"),
    ],
)
def test_places205_lists_that_do_not_fit(places, tar, tmp_path, line, what):
    source, scenes = places
    val = "".join(f"{s}/gsun_1.jpg {label}\n" for label, s in enumerate(scenes))
    lists = {"train_places205.csv": line.encode(), "val_places205.csv": val.encode()}
    tar(source / "trainvalsplit_places205.tar.gz", {f"{places205.SPLIT}/{n}": t for n, t in lists.items()})
    with pytest.raises(ValueError, match=what):
        places205.main([str(source), str(tmp_path / "out")])
