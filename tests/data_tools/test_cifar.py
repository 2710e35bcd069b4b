"""CIFAR-10 and CIFAR-100 out of short binary files of the same form, as Caffe's example converts them."""

import gzip

import numpy as np
import pytest

from crnn.data_tools import cifar10, cifar100
from crnn.data_tools._manifest import read_manifest
from crnn.proto.blobs import read_mean

TEN = [f"kind {i}" for i in range(10)]


def records(rng, n: int, classes: list[int]) -> np.ndarray:
    """[n, labels + 3072] as in the files."""
    labels = np.stack([rng.integers(0, k, n) for k in classes], 1)
    return np.concatenate([labels, rng.integers(0, 256, (n, 3072))], 1).astype(np.uint8)


@pytest.fixture
def ten(tar, tmp_path):
    """The folder of the archive, and its rows: 5 batches of 4 images, 3 test images."""
    rng = np.random.default_rng(0)
    rows = {name: records(rng, 4, [10]) for name in cifar10.TRAIN} | {cifar10.TEST: records(rng, 3, [10])}
    files = {name: data.tobytes() for name, data in rows.items()}
    files[cifar10.NAMES] = "\n".join([*TEN, "", ""]).encode()
    tar(tmp_path / "in/cifar-10-binary.tar.gz", files)
    return tmp_path / "in", rows, files


@pytest.fixture
def hundred(tar, tmp_path):
    rng = np.random.default_rng(1)
    folder = cifar100.FOLDER
    rows = {"train": records(rng, 9, [20, 100]), "test": records(rng, 4, [20, 100])}
    files = {f"{folder}/{part}.bin": data.tobytes() for part, data in rows.items()}
    for level, n in (("coarse", 20), ("fine", 100)):
        files[f"{folder}/{level}_label_names.txt"] = "".join(f"{level}{i}\n" for i in range(n)).encode()
    tar(tmp_path / "in/cifar-100-binary.tar.gz", files)
    return tmp_path / "in", rows


def test_cifar10_is_as_caffes_example_makes_it(ten, tmp_path, contents):
    source, rows, _ = ten
    assert cifar10.main([str(source), str(tmp_path / "out")]) == 0
    train = np.concatenate([rows[name] for name in cifar10.TRAIN])
    for part, want in (("train", train), ("test", rows[cifar10.TEST])):
        got = contents(tmp_path / f"out/{part}_lmdb")
        assert [key for key, _ in got] == [f"{i:05d}" for i in range(len(want))]
        assert [datum.label for _, datum in got] == want[:, 0].tolist()
        assert [datum.data for _, datum in got] == [row[1:].tobytes() for row in want]  # planes R, G, B
        assert {(d.channels, d.height, d.width) for _, d in got} == {(3, 32, 32)}
    mean = read_mean(tmp_path / "out/mean.binaryproto")
    np.testing.assert_allclose(mean.ravel(), train[:, 1:].mean(0), rtol=1e-6)
    assert (tmp_path / "out/labels.txt").read_text().splitlines() == TEN


def test_the_last_training_images_validate(ten, tmp_path, contents):
    source, rows, _ = ten
    cifar10.main([str(source), str(tmp_path / "out"), "--val=4"])
    assert len(contents(tmp_path / "out/train_lmdb")) == 16
    got = [datum.label for _, datum in contents(tmp_path / "out/val_lmdb")]
    assert got == rows[cifar10.TRAIN[4]][:, 0].tolist()
    with pytest.raises(ValueError, match="--val takes 0 to 19 of the 20 training images, got 20"):
        cifar10.main([str(source), str(tmp_path / "other"), "--val=20"])


def test_cifar100_has_label_sequences_of_the_same_keys(hundred, tmp_path, contents):
    source, rows = hundred
    assert cifar100.main([str(source), str(tmp_path / "out"), "--val=3"]) == 0
    parts = {"train": rows["train"][:6], "val": rows["train"][6:], "test": rows["test"]}
    for part, want in parts.items():
        images, labels = (
            contents(tmp_path / f"out/{part}_lmdb"),
            contents(tmp_path / f"out/{part}_labels_lmdb"),
        )
        assert [key for key, _ in images] == [key for key, _ in labels]
        assert [datum.label for _, datum in images] == want[:, 1].tolist()
        assert [list(datum.float_data) for _, datum in labels] == want[:, :2].astype(float).tolist()
        assert {(d.channels, d.height, d.width) for _, d in labels} == {(2, 1, 1)}
    assert (tmp_path / "out/coarse_labels.txt").read_text().splitlines()[19] == "coarse19"
    assert len((tmp_path / "out/fine_labels.txt").read_text().splitlines()) == 100


def test_cifar100_by_coarse_labels(hundred, tmp_path, contents):
    source, rows = hundred
    cifar100.main([str(source), str(tmp_path / "out"), "--label=coarse"])
    assert [d.label for _, d in contents(tmp_path / "out/test_lmdb")] == rows["test"][:, 0].tolist()
    assert read_manifest(tmp_path / "out/test_lmdb")["classes"] == 20


@pytest.mark.parametrize("module", [cifar10, cifar100])
def test_pickles_are_refused_and_the_binary_version_named(module, tmp_path):
    stem = module.NAME.replace("cifar", "cifar-")
    (tmp_path / f"{stem}-python.tar.gz").write_bytes(gzip.compress(b"cos\nsystem\n(S'false'\ntR."))
    with pytest.raises(ValueError, match=rf"holds pickles, .* never loaded: take {stem}-binary\.tar\.gz"):
        module.main([str(tmp_path), str(tmp_path / "out")])


def test_a_cut_file_and_a_label_beyond_the_classes(ten, unpack, tmp_path):
    _, _, files = ten
    unpack(tmp_path / "folder", {**files, cifar10.TEST: files[cifar10.TEST][:-1]})
    with pytest.raises(
        ValueError, match=r"test_batch\.bin has 9,218 bytes, no multiple of 3073: get it again"
    ):
        cifar10.main([str(tmp_path / "folder"), str(tmp_path / "out")])
    unpack(tmp_path / "folder", {cifar10.TEST: b"\x0a" + files[cifar10.TEST][1:]})
    with pytest.raises(ValueError, match=r"test_batch\.bin has a label beyond its \[10\] classes"):
        cifar10.main([str(tmp_path / "folder"), str(tmp_path / "out")])


@pytest.mark.parametrize("pad", [0, 4])
def test_zeros_around_each_image(hundred, tmp_path, contents, pad):
    source, rows = hundred
    cifar100.main([str(source), str(tmp_path / "out"), f"--pad={pad}"])
    size = 32 + 2 * pad
    for row, (_, datum) in zip(rows["test"], contents(tmp_path / "out/test_lmdb"), strict=True):
        image = np.frombuffer(datum.data, np.uint8).reshape(3, size, size)
        inner = image[:, pad : size - pad, pad : size - pad]
        assert inner.tobytes() == row[2:].tobytes() and image.sum() == inner.sum()
