"""ILSVRC 2012 out of tiny archives of the same form: two classes whose devkit numbers are not their ranks."""

from pathlib import Path

import numpy as np
import pytest

from crnn.data_tools import ilsvrc2012, image_mean
from crnn.data_tools._manifest import read_manifest
from crnn.data_tools.verify import verify
from crnn.proto.blobs import read_mean

META = (Path(__file__).parent / "files" / "meta.mat").read_bytes()  # ID 1 n02119789, ID 2 n02100735
SETTER, FOX = "n02100735", "n02119789"  # labels 0 and 1
TRUTH = [1, 2, 2, 1, 1]
VAL_LABELS = [1, 0, 0, 1, 1]
DEVKIT = "ILSVRC2012_devkit_t12"


@pytest.fixture
def train(photo):
    return {f"{wnid}/{wnid}_{i}.JPEG": photo(i) for wnid in (FOX, SETTER) for i in (7, 10026, 3, 12)}


@pytest.fixture
def val(photo):
    return {f"ILSVRC2012_val_{i:08d}.JPEG": photo(i) for i in range(1, 6)}


@pytest.fixture
def devkit():
    truth = "".join(f"{number}\r\n" for number in TRUTH).encode()
    return {
        f"{DEVKIT}/data/meta.mat": META,
        f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt": truth,
    }


@pytest.fixture
def archives(train, val, devkit, tar, tmp_path):
    """The folder of the official archives."""
    source, inner = tmp_path / "archives", {}
    for wnid in (FOX, SETTER):
        files = {name.partition("/")[2]: data for name, data in train.items() if name.startswith(wnid)}
        tar(tmp_path / f"{wnid}.tar", files)
        inner[f"{wnid}.tar"] = (tmp_path / f"{wnid}.tar").read_bytes()
    tar(source / "ILSVRC2012_img_train.tar", inner)
    tar(source / "ILSVRC2012_img_val.tar", val)
    tar(source / f"{DEVKIT}.tar.gz", devkit)
    return source


def convert(source, out, *flags) -> None:
    assert ilsvrc2012.main([str(source), str(out), *flags]) == 0


def test_archives_become_databases_a_mean_and_the_class_names(archives, tmp_path, contents):
    out = tmp_path / "out"
    convert(archives, out)
    train, val = contents(out / "train_lmdb"), contents(out / "val_lmdb")
    assert {(d.channels, d.height, d.width, d.encoded) for _, d in train + val} == {(3, 256, 256, False)}
    assert [key[:9] for key, _ in train] == [f"{i:08d}_" for i in range(8)]
    assert [key[9:] for key, _ in train] != sorted(key[9:] for key, _ in train)  # shuffled
    assert {(key[9:18], datum.label) for key, datum in train} == {(SETTER, 0), (FOX, 1)}
    labels = {int(key[-13:-5]): datum.label for key, datum in val}
    assert [labels[i] for i in range(1, 6)] == VAL_LABELS
    mean = read_mean(out / "mean.binaryproto")
    np.testing.assert_array_equal(mean, image_mean.image_mean(out / "train_lmdb").astype(np.float32))
    assert (out / "synsets.txt").read_text() == f"{SETTER}\n{FOX}\n"
    assert (out / "synset_words.txt").read_text().splitlines()[1] == "n02119789 kit fox, Vulpes macrotis"
    assert sorted(path.name for path in out.iterdir()) == [
        *("mean.binaryproto", "synset_words.txt", "synsets.txt", "train_lmdb", "val_lmdb")
    ]


def test_the_manifest_tells_where_it_came_from(archives, tmp_path, capsys):
    convert(archives, tmp_path / "out")
    manifest = read_manifest(tmp_path / "out/train_lmdb")
    assert manifest["labels"] == {"0": 4, "1": 4} and manifest["shape"] == [3, 256, 256]
    assert manifest["classes"] == 2 and manifest["official"] == 1_281_167
    assert manifest["inputs"]["ILSVRC2012_img_train.tar"]["bytes"] > 10_000
    assert manifest["inputs"]["meta.mat"]["bytes"] == len(META)
    assert manifest["mean"] == "../mean.binaryproto" and manifest["options"]["shuffle"] is True
    assert "8 records (the published set has 1,281,167)" in capsys.readouterr().out


@pytest.mark.parametrize("sorted_val", [False, True])
def test_unpacked_folders_give_the_same(archives, train, val, devkit, unpack, tmp_path, contents, sorted_val):
    folder = tmp_path / "folder"
    unpack(folder / "train", train)
    unpack(folder / "val", {f"{FOX}/{name}" if sorted_val else name: data for name, data in val.items()})
    unpack(folder, devkit)
    convert(archives, tmp_path / "a")
    convert(folder, tmp_path / "b")
    for part in ("train_lmdb", "val_lmdb"):
        assert contents(tmp_path / "a" / part) == contents(tmp_path / "b" / part)


@pytest.mark.parametrize("packed", [False, True])
def test_caffes_lists_do_without_the_devkit(archives, train, unpack, tar, tmp_path, contents, packed):
    (archives / f"{DEVKIT}.tar.gz").unlink()
    listed = [(name, int(name.startswith(FOX))) for name in reversed(train)][:5]
    lists = {
        "synsets.txt": f"{SETTER}\n{FOX}\n".encode(),
        "synset_words.txt": f"{SETTER} setter\n{FOX} fox".encode(),
        "train.txt": "".join(f"{name} {label}\n" for name, label in listed).encode(),
        "val.txt": b"ILSVRC2012_val_00000002.JPEG 0\nILSVRC2012_val_00000001.JPEG 1\n",
    }
    tar(archives / "caffe_ilsvrc12.tar.gz", lists) if packed else unpack(archives, lists)
    convert(archives, tmp_path / "out", "--in-order", "--resize-width=16", "--resize-height=8")
    got = [(key[9:], datum.label) for key, datum in contents(tmp_path / "out/train_lmdb")]
    assert got == listed
    got = [(key, datum.label) for key, datum in contents(tmp_path / "out/val_lmdb")]
    assert got == [("00000000_ILSVRC2012_val_00000002.JPEG", 0), ("00000001_ILSVRC2012_val_00000001.JPEG", 1)]
    assert (tmp_path / "out/synset_words.txt").read_text() == f"{SETTER} setter\n{FOX} fox\n"


def test_without_synsets_the_training_images_name_the_classes(archives, unpack, tmp_path, contents):
    (archives / f"{DEVKIT}.tar.gz").unlink()
    unpack(archives, {"val.txt": b"ILSVRC2012_val_00000001.JPEG 1"})
    convert(archives, tmp_path / "out")
    assert (tmp_path / "out/synsets.txt").read_text() == f"{SETTER}\n{FOX}\n"
    assert [datum.label for _, datum in contents(tmp_path / "out/val_lmdb")] == [1]


def test_stored_files_keep_their_bytes(archives, train, tmp_path, contents):
    flags = ["--parts=train", "--encoded", "--resize-width=0", "--resize-height=0"]
    convert(archives, tmp_path / "out", *flags)
    for key, datum in contents(tmp_path / "out/train_lmdb"):
        assert datum.encoded and datum.data == train[key[9:]]


def test_the_mean_of_stored_files_is_that_of_their_pixels(archives, tmp_path):
    convert(archives, tmp_path / "out", "--encode-type=jpg")
    want = image_mean.image_mean(tmp_path / "out/train_lmdb").astype(np.float32)
    np.testing.assert_array_equal(read_mean(tmp_path / "out/mean.binaryproto"), want)
    assert verify(tmp_path / "out/train_lmdb") == []


# ---- what does not fit ----


def test_parts_that_there_are_not(archives, tmp_path, capsys):
    with pytest.raises(SystemExit):
        convert(archives, tmp_path / "out", "--parts=train,test")
    assert "wanted some of train,val, got train,test" in capsys.readouterr().err


def test_a_tar_with_a_name_that_leads_out_is_refused_before_anything_is_written(archives, tar, tmp_path):
    tar(archives / "ILSVRC2012_img_val.tar", {"../../ILSVRC2012_val_00000001.JPEG": b""})
    with pytest.raises(ValueError, match=r"img_val\.tar is refused: the name '../../ILS.* leads out of it"):
        convert(archives, tmp_path / "out")
    assert not (tmp_path / "out/train_lmdb").exists()


def test_what_is_missing_is_named(archives, tmp_path):
    (archives / f"{DEVKIT}.tar.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither .*devkit_t12\.tar\.gz nor Caffe's val\.txt"):
        convert(archives, tmp_path / "out")
    convert(archives, tmp_path / "out", "--parts=train")
    (archives / "ILSVRC2012_img_train.tar").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds none of train/, ILSVRC2012_img_train\.tar: --help"):
        convert(archives, tmp_path / "other")


def test_lists_that_disagree_with_the_devkit(archives, unpack, tmp_path):
    unpack(archives, {"synsets.txt": f"{FOX}\n{SETTER}\n".encode()})
    with pytest.raises(
        ValueError, match=r"synsets.txt and the devkit name different classes: in another ord"
    ):
        convert(archives, tmp_path / "out")
    lines = [f"ILSVRC2012_val_{i:08d}.JPEG {label}" for i, label in enumerate([1, 0, 1, 1, 1], 1)]
    unpack(archives, {"synsets.txt": f"{SETTER}\n{FOX}".encode(), "val.txt": "\n".join(lines).encode()})
    with pytest.raises(
        ValueError, match=r"val.txt and the devkit disagree, first on ILSVRC2012_val_00000003"
    ):
        convert(archives, tmp_path / "out")


def test_an_unknown_class_and_a_wrong_label(archives, unpack, train, tar, tmp_path):
    folder = tmp_path / "folder"
    unpack(folder, {"synsets.txt": f"{SETTER}\n{FOX}\n".encode(), "train.txt": f"{FOX}/a.JPEG 0".encode()})
    unpack(folder / "train", {f"{FOX}/a.JPEG": b""})
    with pytest.raises(ValueError, match=r"train.txt: n02119789/a.JPEG has label 0, its class 1"):
        convert(folder, tmp_path / "out", "--parts=train")
    (folder / "train.txt").unlink()
    unpack(folder / "train", {"n00000001/a.JPEG": b""})
    with pytest.raises(ValueError, match="n00000001 is not one of the 2 classes"):
        convert(folder, tmp_path / "out", "--parts=train")
