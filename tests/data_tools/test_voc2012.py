"""VOC 2012 and SBD out of small archives of the same form: splits, exact indices, one geometry for both."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crnn.data.datum import decode
from crnn.data.lmdb_reader import LmdbReader
from crnn.data_tools import voc2012
from crnn.data_tools._label_map import palette_indices
from crnn.data_tools._manifest import read_manifest
from crnn.data_tools.verify import verify
from crnn.data_tools.voc2012 import SBD, VOC

CLS = (Path(__file__).parent / "files" / "cls.mat").read_bytes()  # 3 x 5: see test_matfile
SBD_MAP = [[0, 0, 15, 15, 0], [0, 15, 15, 20, 0], [0, 0, 0, 20, 20]]


def mask(seed: int, height: int = 3, width: int = 5, **options) -> tuple[bytes, np.ndarray]:
    """A palette PNG whose colours tell nothing of its indices."""
    rng = np.random.default_rng(seed)
    indices = rng.choice([0, 1, 15, 20, 255], (height, width)).astype(np.uint8)
    image = Image.frombytes("P", (width, height), indices.tobytes())
    image.putpalette([0, 0, 0] * 200 + [255, 255, 255] * 56)  # equal colours: only the indices differ
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue(), indices


@pytest.fixture
def voc(photo):
    """Files of VOC: t1, t2 train; v1, v2, v3 val. s1, s2 are images without a map of VOC."""
    files = {f"{VOC}/ImageSets/Segmentation/train.txt": b"t1\r\nt2\r\n"}
    files[f"{VOC}/ImageSets/Segmentation/val.txt"] = b"v1\nv2\nv3"
    for i, name in enumerate(["t1", "t2", "v1", "v2", "v3"]):
        files[f"{VOC}/SegmentationClass/{name}.png"] = mask(i)[0]
    for i, name in enumerate(["t1", "t2", "v1", "v2", "v3", "s1"]):
        files[f"{VOC}/JPEGImages/{name}.jpg"] = photo(i, 3, 5)
    return files


@pytest.fixture
def sbd(photo):
    """Files of SBD: it has t1, v2 and two more; s2's image is its own."""
    files = {
        f"{SBD}/train.txt": b"t1\ns1\n",
        f"{SBD}/val.txt": b"v2\ns2\n",
        f"{SBD}/img/s2.jpg": photo(7, 3, 5),
    }
    return files | {f"{SBD}/cls/{name}.mat": CLS for name in ("t1", "s1", "v2", "s2")}


def maps(path) -> dict[str, np.ndarray]:
    return {key.decode()[9:]: decode(value)[0] for key, value in LmdbReader(path).items()}


AS_THEY_ARE = ["--resize-width=0", "--resize-height=0"]


def test_the_published_split_with_exact_indices(voc, tar, tmp_path):
    tar(tmp_path / "in/VOCtrainval_11-May-2012.tar", voc)
    assert voc2012.main([str(tmp_path / "in"), str(tmp_path / "out"), *AS_THEY_ARE]) == 0
    train, val = maps(tmp_path / "out/train_maps_lmdb"), maps(tmp_path / "out/val_maps_lmdb")
    assert set(train) == {"t1", "t2"} and set(val) == {"v1", "v2", "v3"}
    for i, name in enumerate(["t1", "t2", "v1", "v2", "v3"]):
        np.testing.assert_array_equal((train | val)[name], mask(i)[1][None])
    images = LmdbReader(tmp_path / "out/val_lmdb")
    assert [key for key, _ in images.items()] == [
        k for k, _ in LmdbReader(tmp_path / "out/val_maps_lmdb").items()
    ]
    assert len((tmp_path / "out/labels.txt").read_text().splitlines()) == 21


def test_with_sbd_the_split_of_the_l_rnn_paper(voc, sbd, tar, tmp_path):
    tar(tmp_path / "in/VOCtrainval_11-May-2012.tar", voc)
    tar(tmp_path / "sbd/benchmark.tgz", sbd)
    voc2012.main([str(tmp_path / "in"), str(tmp_path / "out"), f"--sbd={tmp_path}/sbd", *AS_THEY_ARE])
    train, val = maps(tmp_path / "out/train_maps_lmdb"), maps(tmp_path / "out/val_maps_lmdb")
    assert set(val) == {"v1", "v3"}  # VOC's val that SBD has not
    assert set(train) == {"t1", "t2", "v2", "s1", "s2"}
    np.testing.assert_array_equal(train["t1"], mask(0)[1][None])  # VOC's map, though SBD has one
    assert train["s1"].tolist() == train["s2"].tolist() == [SBD_MAP]
    assert len(LmdbReader(tmp_path / "out/train_lmdb")) == 5
    assert read_manifest(tmp_path / "out/train_maps_lmdb")["official"] == 11_685


def test_the_split_counts_of_the_paper():
    """Sizes of the four published lists and of their intersections that give 11,685 and 346."""
    train, val = {f"t{i}" for i in range(1464)}, {f"v{i}" for i in range(1449)}
    shared = {f"v{i}" for i in range(346, 1449)} | {f"t{i}" for i in range(1134)}
    sbd = shared | {f"s{i}" for i in range(11_355 - len(shared))}
    ids = {("VOC", "train"): train, ("VOC", "val"): val, ("SBD", "train"): sbd, ("SBD", "val"): set()}
    assert {part: len(members) for part, members in voc2012.split(ids).items()} == {
        "train": 11_685,
        "val": 346,
    }


@pytest.mark.parametrize("fit", ["pad", "warp"])
def test_images_and_maps_have_one_geometry(tar, tmp_path, fit):
    """An image whose left half is white and whose map says so: after resizing they still agree."""
    height, width = 20, 40
    image = np.zeros((height, width, 3), np.uint8)
    image[:, :20] = 255
    indices = np.where(image[..., 0] > 0, 3, 9).astype(np.uint8)
    out, png = io.BytesIO(), io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    Image.fromarray(indices).save(png, "PNG")
    lists = {f"{VOC}/ImageSets/Segmentation/{part}.txt": b"a" for part in ("train", "val")}
    files = {f"{VOC}/JPEGImages/a.jpg": out.getvalue(), f"{VOC}/SegmentationClass/a.png": png.getvalue()}
    tar(tmp_path / "in/VOCtrainval_11-May-2012.tar", {**lists, **files})
    voc2012.main([str(tmp_path / "in"), str(tmp_path / "out"), f"--fit={fit}"])
    (pixels,), (labels,) = (
        [decode(value)[0] for _, value in LmdbReader(tmp_path / f"out/{name}").items()]
        for name in ("train_lmdb", "train_maps_lmdb")
    )
    assert pixels.shape == (3, 384, 384) and labels.shape == (1, 384, 384)
    inner = 192 if fit == "pad" else 384
    assert set(np.unique(labels[0, :inner, :190])) == {3} and set(np.unique(labels[0, :inner, 194:])) == {9}
    assert (pixels[:, :inner, :186] == 255).all() and (pixels[:, :inner, 198:] == 0).all()
    if fit == "pad":
        assert (labels[0, 192:] == 255).all()
        assert (pixels[:, 200, 100] == (104, 117, 123)).all()


def test_an_image_or_map_that_is_bad_is_skipped_in_both(voc, tar, tmp_path):
    voc[f"{VOC}/JPEGImages/v1.jpg"] = b"no image"
    voc[f"{VOC}/SegmentationClass/v2.png"] = mask(3)[0][:-30]
    voc[f"{VOC}/SegmentationClass/v3.png"] = mask(3, 4, 5)[0]  # not the image's size
    voc[f"{VOC}/ImageSets/Segmentation/val.txt"] += b"\nt1"
    tar(tmp_path / "in/VOCtrainval_11-May-2012.tar", voc)
    voc2012.main([str(tmp_path / "in"), str(tmp_path / "out"), "--parts=val", *AS_THEY_ARE])
    keys = [[k for k, _ in LmdbReader(tmp_path / f"out/{n}").items()] for n in ("val_lmdb", "val_maps_lmdb")]
    assert keys[0] == keys[1] and [key[9:] for key in keys[0]] == [b"t1"]
    said = {name: text for _, name, text in read_manifest(tmp_path / "out/val_lmdb")["skipped"]}
    assert said["v3"] == "its label map is (4, 5), the image (3, 5) pixels"
    assert "ends within a chunk" in said["v2"] and "cannot be decoded" in said["v1"]
    assert verify(tmp_path / "out/val_maps_lmdb") == []


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_palettes_of_few_colours(depth):
    top = min(1 << depth, 256)
    indices = (np.arange(64 * 7).reshape(7, 64) % top).astype(np.uint8)
    image = Image.frombytes("P", (64, 7), indices.tobytes())
    image.putpalette([9, 9, 9] * top)
    out = io.BytesIO()
    image.save(out, "PNG", bits=depth, transparency=0)
    np.testing.assert_array_equal(palette_indices(out.getvalue()), indices)


def test_a_map_in_colour_is_refused():
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, "PNG")
    with pytest.raises(ValueError, match="a label map of colour type 2, wanted a palette or grey"):
        palette_indices(out.getvalue())
    with pytest.raises(ValueError, match="a label map that is no PNG"):
        palette_indices(b"GIF89a")
