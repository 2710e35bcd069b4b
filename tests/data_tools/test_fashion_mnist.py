"""Fashion-MNIST out of small files of the same form: where they come from, and what becomes of them."""

import gzip
import hashlib
import os
import shutil
import struct

import numpy as np
import pytest

from crnn.data_tools import fashion_mnist

TRAIN, TEST = 50, 20


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def files(monkeypatch):
    """name -> unpacked bytes, taken for the published ones."""
    rng = np.random.default_rng(0)
    made = {}
    for part, n in (("train", TRAIN), ("t10k", TEST)):
        made[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28), np.uint8))
        made[f"{part}-labels-idx1-ubyte"] = idx(np.arange(n, dtype=np.uint8) % 10)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in made.items()}
    monkeypatch.setattr(fashion_mnist, "SHA256", digests)
    return made


@pytest.fixture
def source(files, tmp_path):
    (tmp_path / "source").mkdir()
    for name, data in files.items():
        (tmp_path / "source" / f"{name}.gz").write_bytes(gzip.compress(data))
    return tmp_path / "source"


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No installed package, no apt-get, no network."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(fashion_mnist, "INSTALLED", tmp_path / "usr")
    monkeypatch.setattr(fashion_mnist, "ADDRESS", f"file://{tmp_path}/web/")


def program(folder, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_two_databases_and_the_class_names(source, files, tmp_path, contents):
    out = tmp_path / "out"
    assert fashion_mnist.main([str(out), "--source", str(source)]) == 0
    assert (out / "labels.txt").read_text().splitlines() == list(fashion_mnist.CLASSES)
    for part, prefix, n in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        pixels = np.frombuffer(files[f"{prefix}-images-idx3-ubyte"], np.uint8, offset=16).reshape(n, 28 * 28)
        got, seen = contents(out / f"{part}_lmdb"), []
        for number, (key, datum) in enumerate(got):
            count, name, index = key.split("_")
            assert int(count) == number
            assert name == fashion_mnist.CLASSES[datum.label].replace("/", "-").replace(" ", "-")
            assert (datum.channels, datum.height, datum.width, datum.encoded) == (1, 28, 28, False)
            assert datum.data == pixels[int(index)].tobytes() and datum.label == int(index) % 10
            seen.append(int(index))
        assert sorted(seen) == list(range(n)) != seen  # all of them, shuffled


def test_the_order_is_the_same_every_time(source, tmp_path, contents):
    for out in ("a", "b"):
        fashion_mnist.main([str(tmp_path / out), "--source", str(source)])
    assert contents(tmp_path / "a/train_lmdb") == contents(tmp_path / "b/train_lmdb")


def test_an_installed_package_is_used_where_it_lies(source, nowhere, monkeypatch, tmp_path):
    monkeypatch.setattr(fashion_mnist, "INSTALLED", source)
    assert fashion_mnist.main([str(tmp_path / "out")]) == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["labels.txt", "test_lmdb", "train_lmdb"]


def test_apt_get_with_lists_of_its_own_where_the_machine_has_none(source, nowhere, tmp_path, capsys):
    """The programs are stand-ins: apt-get knows the package after an update into lists of ours."""
    program(
        tmp_path / "bin",
        "apt-get",
        f"""echo "$@" >> {tmp_path}/calls
for word; do case $word in -oDir::State::Lists=*) lists=${{word#*=}};; esac; done
case "$*" in *" update") echo known > $lists/packages; exit;; esac
[ -n "$lists" ] && [ -e $lists/packages ] || {{ echo "E: Unable to locate package" >&2; exit 100; }}
echo > dataset-fashion-mnist_1_all.deb""",
    )
    inside = f"$3{tmp_path}/usr"
    program(tmp_path / "bin", "dpkg-deb", f"/bin/mkdir -p {inside}; /bin/cp {source}/* {inside}/")
    assert fashion_mnist.main([str(tmp_path / "out")]) == 0
    assert "Fashion-MNIST from apt-get download" in capsys.readouterr().out
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[-1] for call in calls] == [
        "dataset-fashion-mnist",
        "update",
        "dataset-fashion-mnist",
    ]
    assert sorted(os.listdir(tmp_path / "out/download")) == sorted(
        f"{name}.gz" for name in fashion_mnist.SHA256
    )


def test_the_authors_address_and_the_cache_after_it(source, nowhere, tmp_path, capsys):
    source.rename(tmp_path / "web")
    fashion_mnist.main([str(tmp_path / "out"), "--cache", str(tmp_path / "cache")])
    assert f"Fashion-MNIST from file://{tmp_path}/web/" in capsys.readouterr().out
    (tmp_path / "web").rename(tmp_path / "gone")
    fashion_mnist.main([str(tmp_path / "again"), "--cache", str(tmp_path / "cache")])
    assert f"Fashion-MNIST from {tmp_path}/cache" in capsys.readouterr().out


def test_when_nothing_works_every_way_is_named(files, nowhere, tmp_path):
    program(tmp_path / "bin", "apt-get", "echo 'E: no network' >&2; exit 100")
    with pytest.raises(OSError, match="name a folder with its files by --source") as error:
        fashion_mnist.main([str(tmp_path / "out")])
    said = str(error.value)
    assert f"the installed package dataset-fashion-mnist ({tmp_path}/usr): there is no" in said
    assert "apt-get download dataset-fashion-mnist: apt-get failed: E: no network" in said
    assert f"file://{tmp_path}/web/: <urlopen error" in said
    assert not (tmp_path / "out" / "train_lmdb").exists()


def test_files_that_are_not_the_published_ones(source, tmp_path):
    path = source / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    for damage, message in [
        (gzip.compress(b"other"), "is not the published file"),
        (whole[:-9], "is damaged"),
        (b"<html>", "is damaged"),
        (whole[:20] + b"\xff\xff\xff\xff" + whole[24:], "is damaged|is not the published file"),
    ]:
        path.write_bytes(damage)
        with pytest.raises(OSError, match=rf"t10k-labels-idx1-ubyte\.gz ({message})"):
            fashion_mnist.main([str(tmp_path / "out"), "--source", str(source)])
    path.unlink()
    with pytest.raises(OSError, match=r"there is no .*t10k-labels-idx1-ubyte\.gz"):
        fashion_mnist.main([str(tmp_path / "out"), "--source", str(source)])


def test_existing_databases_are_kept(source, tmp_path):
    arguments = [str(tmp_path / "out"), "--source", str(source)]
    fashion_mnist.main(arguments)
    with pytest.raises(FileExistsError, match="train_lmdb exists"):
        fashion_mnist.main(arguments)


def test_a_missing_database_is_added_to_the_other(source, tmp_path, contents):
    arguments = [str(tmp_path / "out"), "--source", str(source), "--keep"]
    fashion_mnist.main(arguments)
    kept = (tmp_path / "out/train_lmdb/data.mdb").stat()
    shutil.rmtree(tmp_path / "out/test_lmdb")
    fashion_mnist.main(arguments)
    assert len(contents(tmp_path / "out/test_lmdb")) == TEST
    assert (tmp_path / "out/train_lmdb/data.mdb").stat() == kept


def test_an_idx_file_of_another_type():
    with pytest.raises(ValueError, match="not an idx file of bytes: it starts with 00000d01"):
        fashion_mnist.idx(bytes([0, 0, 13, 1, 0, 0, 0, 0]))
