"""A converter that was stopped goes on; what comes out equals an unbroken run, for any number of workers."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from crnn.data.checksums import read_checksums
from crnn.data.lmdb_reader import LmdbReader
from crnn.data.lmdb_writer import Lmdb
from crnn.data_tools import _store, _write, cifar10, imageset
from crnn.data_tools._manifest import read_manifest
from crnn.data_tools._store import Store
from crnn.data_tools.verify import verify

IMAGES, BATCH = 137, 10
FLAGS = ["--shuffle", "--resize-width=12", "--resize-height=10"]


@pytest.fixture
def images(photo, unpack, tmp_path):
    """A folder and a list of images, every eleventh of which is bad."""
    files = {f"{i:03d} x.jpg": photo(i) if i % 11 else b"bad" for i in range(IMAGES)}
    unpack(tmp_path / "in", files)
    (tmp_path / "list").write_text("".join(f"{name} {i % 5}\n" for i, name in enumerate(files)))
    return [f"{tmp_path}/in/", f"{tmp_path}/list"]


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr("crnn.data.database_writer.COMMIT_RECORDS", BATCH)
    monkeypatch.setattr(_write, "CHUNK", 4)


def convert(images, database, *flags) -> None:
    imageset.main([*FLAGS, *flags, *images, str(database)])


def everything(path) -> tuple:
    """Records, checksums and manifest."""
    return list(LmdbReader(path).items()), read_checksums(path).tolist(), read_manifest(path)


@pytest.fixture
def unbroken(images, tmp_path):
    (tmp_path / "unbroken").mkdir()
    convert(images, tmp_path / "unbroken/db")
    return everything(tmp_path / "unbroken/db")


class Stopped(BaseException):
    """Like a signal: no handler of errors catches it."""


def stop_after(monkeypatch, count: int) -> None:
    """Makes the run end as it hands the record after `count` others to the database."""
    put, seen = _write._put, []

    def stopping(*args):
        seen.append(args)
        if len(seen) > count:
            raise Stopped
        put(*args)

    monkeypatch.setattr(_write, "_put", stopping)


def break_at(monkeypatch, line: int) -> None:
    """Makes the writing thread fail before that line of the journal: its records are in the database."""
    log, seen = Store._log, []

    def breaking(store, text):
        seen.append(text)
        if len(seen) > line:
            raise OSError("the disk is gone")
        log(store, text)

    monkeypatch.setattr(Store, "_log", breaking)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(images, unbroken, tmp_path, workers, small_batches):
    convert(images, tmp_path / "db", f"--workers={workers}")
    assert everything(tmp_path / "db") == unbroken
    assert sorted(os.listdir(tmp_path / "db")) == ["crc32", "data.mdb", "manifest.json"]


@pytest.mark.parametrize("count", [0, 5, 33, 100, 136])
def test_a_stopped_run_goes_on(images, unbroken, tmp_path, monkeypatch, small_batches, capsys, count):
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, count)
        convert(images, tmp_path / "db")
    assert not (tmp_path / "db").exists()
    capsys.readouterr()
    convert(images, tmp_path / "db")
    assert everything(tmp_path / "db") == unbroken
    assert ("records are there, checking them" in capsys.readouterr().out) == (count > 3 * BATCH)


@pytest.mark.parametrize("line", [1, 2, 3, 7])
def test_records_that_were_not_acknowledged_are_written_again(
    images, unbroken, tmp_path, monkeypatch, small_batches, line
):
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is gone"):
        break_at(patch, line)
        convert(images, tmp_path / "db")
    convert(images, tmp_path / "db")
    assert everything(tmp_path / "db") == unbroken


@pytest.mark.parametrize("flags", [["--encoded"], ["--encode-type=png"], ["--gray", "--encode-type=jpg"]])
def test_a_stopped_run_of_image_files_goes_on(images, tmp_path, monkeypatch, small_batches, flags):
    (tmp_path / "whole").mkdir()
    convert(images, tmp_path / "whole/db", *flags)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 60)
        convert(images, tmp_path / "db", *flags)
    convert(images, tmp_path / "db", *flags)
    assert everything(tmp_path / "db") == everything(tmp_path / "whole/db")


@pytest.mark.parametrize("line", [2, 3, 4])
def test_records_are_dropped_from_a_database_that_fills_its_map(
    images, tmp_path, monkeypatch, small_batches, line
):
    monkeypatch.setattr(Lmdb.__init__, "__defaults__", (1 << 16,))
    flags = ["--resize-width=64", "--resize-height=64"]
    with monkeypatch.context() as patch, pytest.raises(OSError, match="the disk is gone"):
        break_at(patch, line)
        convert(images, tmp_path / "db", *flags)
    convert(images, tmp_path / "db", *flags)
    assert len(LmdbReader(tmp_path / "db")) == IMAGES - 13 and verify(tmp_path / "db") == []


def test_a_run_stopped_many_times(images, unbroken, tmp_path, monkeypatch, small_batches):
    for _ in range(4):
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            stop_after(patch, 33)
            convert(images, tmp_path / "db")
    convert(images, tmp_path / "db")
    assert everything(tmp_path / "db") == unbroken


@pytest.fixture
def half(images, tmp_path, monkeypatch, small_batches):
    """The folder of a run that was stopped half way."""
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 70)
        convert(images, tmp_path / "db")
    return tmp_path / "db.partial"


def test_a_journal_cut_in_a_line_loses_that_line_only(images, unbroken, half, tmp_path, capsys):
    lines = (half / "journal").read_bytes().splitlines(keepends=True)
    (half / "journal").write_bytes(b"".join(lines[:-1]) + lines[-1][:9])
    convert(images, tmp_path / "db")
    assert f"{json.loads(lines[-2])['records']} records are there" in capsys.readouterr().out
    assert everything(tmp_path / "db") == unbroken


def test_other_input_or_options_are_not_mixed_in(images, half, tmp_path):
    for change in (["--seed=2"], ["--gray"], ["--resize-width=13"]):
        with pytest.raises(ValueError, match=r"db\.partial was begun with other input, options or versions"):
            convert(images, tmp_path / "db", *change)
    assert half.exists()
    with open(images[1], "a") as lines:
        lines.write("another.jpg 1\n")
    with pytest.raises(ValueError, match="--restart discards it, or write to another folder"):
        convert(images, tmp_path / "db")
    convert(images, tmp_path / "db", "--restart")
    assert read_manifest(tmp_path / "db")["listed"] == IMAGES + 1


def test_a_damaged_record_is_found_before_going_on(images, half, tmp_path, unbroken):
    data, value = (half / "data.mdb").read_bytes(), unbroken[0][20][1]
    assert value[20:300] in data  # LMDB keeps older copies of a page, so all are changed
    (half / "data.mdb").write_bytes(data.replace(value[20:300], bytes(280)))
    with pytest.raises(OSError, match=r"db\.partial: record b'000000.* is damaged: --restart discards it"):
        convert(images, tmp_path / "db")
    convert(images, tmp_path / "db", "--restart")
    assert everything(tmp_path / "db") == unbroken


@pytest.mark.parametrize("extra", [b"\1", b"\1\2\3\4", bytes(4001)])
def test_checksums_beyond_the_journal_are_dropped(images, unbroken, half, tmp_path, extra):
    with open(half / "crc32", "ab") as file:
        file.write(extra)
    convert(images, tmp_path / "db")
    assert everything(tmp_path / "db") == unbroken


@pytest.mark.parametrize(("name", "size"), [("data.mdb", 9000), ("crc32", 30), ("crc32", 3)])
def test_a_file_cut_short_is_found_before_going_on(images, half, tmp_path, name, size):
    os.truncate(half / name, size)
    with pytest.raises(OSError, match=r"truncated|lacks some of its"):
        convert(images, tmp_path / "db")


def test_a_damaged_journal_is_an_error(images, half, tmp_path):
    (half / "journal").write_bytes(b"{}\nno json\n")
    with pytest.raises(OSError, match="journal is damaged: --restart discards what is there"):
        convert(images, tmp_path / "db")


def test_a_mistake_leaves_nothing(images, tmp_path, small_batches):
    with pytest.raises(ValueError, match="--check-size"):
        imageset.main(["--check-size", *_sizes(images, tmp_path), str(tmp_path / "db")])
    assert not (tmp_path / "db.partial").exists()


def _sizes(images, tmp_path) -> list[str]:
    shutil.copy(tmp_path / "in/001 x.jpg", tmp_path / "in/same.jpg")
    (tmp_path / "list").write_text("001 x.jpg 0\n" * 50 + "000 x.jpg 0\n" + "odd.png 1\n")
    import cv2

    cv2.imwrite(str(tmp_path / "in/odd.png"), np.zeros((5, 5, 3), np.uint8))
    return images


def test_ctrl_c_says_how_to_go_on(images, unbroken, tmp_path, monkeypatch, small_batches, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_write, "_put", interrupt)
        assert imageset.main([*FLAGS, *images, str(tmp_path / "db")]) == 130
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"
    convert(images, tmp_path / "db")
    assert everything(tmp_path / "db") == unbroken


# ---- several databases ----


@pytest.fixture
def cifar(unpack, tmp_path):
    rng = np.random.default_rng(0)
    files = {name: rng.integers(0, 10, (30, 3073), np.uint8).tobytes() for name in cifar10.TRAIN}
    files |= {cifar10.TEST: rng.integers(0, 10, (40, 3073), np.uint8).tobytes()}
    unpack(tmp_path / "cifar", {**files, cifar10.NAMES: b"\n".join(b"%d" % i for i in range(10))})
    return str(tmp_path / "cifar")


def test_whole_databases_of_a_stopped_run_are_kept(cifar, tmp_path, monkeypatch, small_batches):
    cifar10.main([cifar, str(tmp_path / "a")])
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 150 + 25)
        cifar10.main([cifar, str(tmp_path / "b")])
    assert sorted(os.listdir(tmp_path / "b")) == [
        *("labels.txt", "mean.binaryproto", "test_lmdb.partial", "train_lmdb")
    ]
    before = os.stat(tmp_path / "b/train_lmdb/data.mdb").st_mtime_ns
    cifar10.main([cifar, str(tmp_path / "b")])
    assert os.stat(tmp_path / "b/train_lmdb/data.mdb").st_mtime_ns == before
    for name in ("train_lmdb", "test_lmdb"):
        assert everything(tmp_path / "a" / name) == everything(tmp_path / "b" / name)
    assert (tmp_path / "a/mean.binaryproto").read_bytes() == (tmp_path / "b/mean.binaryproto").read_bytes()
    with pytest.raises(FileExistsError, match="train_lmdb exists"):
        cifar10.main([cifar, str(tmp_path / "b")])


def test_the_mean_of_a_resumed_run_is_exact(cifar, tmp_path, monkeypatch, small_batches):
    cifar10.main([cifar, str(tmp_path / "a")])
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        stop_after(patch, 75)
        cifar10.main([cifar, str(tmp_path / "b")])
    cifar10.main([cifar, str(tmp_path / "b"), "--workers=3"])
    assert (tmp_path / "a/mean.binaryproto").read_bytes() == (tmp_path / "b/mean.binaryproto").read_bytes()


def test_databases_of_other_options_are_not_taken_for_parts_of_a_run(cifar, tmp_path):
    cifar10.main([cifar, str(tmp_path / "b"), "--gray"])
    shutil.rmtree(tmp_path / "b/test_lmdb")
    with pytest.raises(
        FileExistsError, match="train_lmdb exists: remove it, write to another folder, or --keep"
    ):
        cifar10.main([cifar, str(tmp_path / "b")])


# ---- killed ----


def test_kill_9_in_the_middle_three_times(images, tmp_path):
    with open(images[1], "w") as lines:
        lines.writelines(f"{i % 10 + 1:03d} x.jpg {i % 7}\n" for i in range(9000))
    convert(images, tmp_path / "unbroken")
    command = [sys.executable, "-m", "crnn", "data", "convert", "imageset", *FLAGS, *images, tmp_path / "db"]
    for said in ("Processed 2000 files.\n", "Processed 5000 files.\n", "Processed 8000 files.\n"):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert said in iter(process.stdout.readline, "")
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "db").exists()
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout.split(" records are there")[0].split()[-1].replace(",", "")) >= 6000
    got, want = everything(tmp_path / "db"), everything(tmp_path / "unbroken")
    assert got[:2] == want[:2] and got[2]["crc32"] == want[2]["crc32"]
    assert verify(tmp_path / "db") == []


def test_a_full_disk_keeps_what_was_written(images, unbroken, tmp_path, monkeypatch, small_batches):
    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match=r"will take .* GB more, 0\.0 GB are free"),
    ):
        patch.setattr(_write.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
        convert(images, tmp_path / "db")
    assert _store.JOURNAL in os.listdir(tmp_path / "db.partial")
    convert(images, tmp_path / "db")
    assert everything(tmp_path / "db") == unbroken


def test_images_of_another_folder_are_not_mixed_in(images, half, tmp_path):
    """Of the same list: their names and labels are those of the first."""
    shutil.copytree(tmp_path / "in", tmp_path / "other")
    with pytest.raises(ValueError, match=r"db\.partial was begun with other input, options or versions"):
        convert([f"{tmp_path}/other/", images[1]], tmp_path / "db")
    convert([f"{tmp_path}/./in", images[1]], tmp_path / "db")
