"""`--backend leveldb` of convert_imageset and compute_image_mean: the records are those of the LMDB."""

import os

import pytest

from crnn.data.databases import open_database
from crnn.data.leveldb_reader import LevelDbReader
from crnn.data.lmdb_reader import LmdbReader
from crnn.data_tools import _write as writing
from crnn.data_tools import image_mean, imageset, info, part
from crnn.data_tools._manifest import read_manifest
from crnn.data_tools._store import Store
from crnn.data_tools.verify import verify
from crnn.proto.blobs import read_mean
from crnn.testing import golden

plyvel = pytest.importorskip("plyvel", reason="needs plyvel: any machine with crnn[leveldb]")
LISTED = [f"{golden('tools/images')}/", str(golden("tools/list.txt"))]
SIZE = ["--resize_width=40", "--resize_height=48"]


def convert(path, *flags) -> list:
    assert imageset.main([*flags, *LISTED, str(path)]) == 0
    return list(open_database(path).items())


@pytest.mark.parametrize(
    "flags",
    [
        [],
        SIZE,
        ["--gray", *SIZE],
        ["--shuffle"],
        ["--encoded"],
        ["--encode_type=png", *SIZE],
        ["--check_size", *SIZE],
    ],
    ids=" ".join,
)
def test_the_records_are_those_of_the_lmdb(flags, tmp_path):
    assert convert(tmp_path / "a", "--backend=leveldb", *flags) == convert(tmp_path / "b", *flags)
    assert isinstance(open_database(tmp_path / "a"), LevelDbReader) and verify(tmp_path / "a") == []


def test_the_records_equal_caffes_byte_for_byte(tmp_path):
    want = list(LmdbReader(golden("tools/raw_color_lmdb")).items())
    assert convert(tmp_path / "db", "-backend", "leveldb", *SIZE) == want
    with plyvel.DB(str(tmp_path / "db"), create_if_missing=False) as db:
        assert list(db) == want


def test_another_backend_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        imageset.main(["--backend=hdf5", *LISTED, str(tmp_path / "db")])
    assert "invalid choice: 'hdf5'" in capsys.readouterr().err


class Stopped(BaseException):
    """Like a signal: no handler of errors catches it."""


@pytest.mark.parametrize("line", [2, 3])
def test_a_run_stopped_in_the_middle_goes_on(tmp_path, monkeypatch, line):
    """The journal's line is missing for what the database has: that is dropped and written again."""
    monkeypatch.setattr("crnn.data.database_writer.COMMIT_RECORDS", 3)
    flags = ["--backend=leveldb", "--shuffle", *SIZE]
    want = convert(tmp_path / "whole", *flags)
    log, seen = Store._log, []

    def breaking(store, text):
        seen.append(text)
        if len(seen) > line:
            raise Stopped
        log(store, text)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Store, "_log", breaking)
        convert(tmp_path / "db", *flags)
    with plyvel.DB(str(tmp_path / "db.partial")) as db:
        assert len(list(db)) == 3 * line
    assert convert(tmp_path / "db", *flags) == want
    assert verify(tmp_path / "db") == []
    for name in ("records", "labels", "crc32"):
        assert read_manifest(tmp_path / "db")[name] == read_manifest(tmp_path / "whole")[name]


def test_what_was_begun_as_an_lmdb_does_not_go_on_as_a_leveldb(tmp_path, monkeypatch):
    monkeypatch.setattr("crnn.data.database_writer.COMMIT_RECORDS", 3)
    put, seen = writing._put, []

    def stopping(*args):
        seen.append(args)
        if len(seen) > 9:
            raise Stopped
        put(*args)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(writing, "_put", stopping)
        convert(tmp_path / "db")
    with pytest.raises(OSError, match=r"db\.partial holds more than an unfinished database: remove it"):
        convert(tmp_path / "db", "--backend=leveldb")


def test_a_record_lost_after_converting_is_found(tmp_path):
    convert(tmp_path / "db", "--backend=leveldb", *SIZE)
    with plyvel.DB(str(tmp_path / "db")) as db:
        db.delete(b"00000003_astronaut/3 crop.jpg")
    problems = " ".join(verify(tmp_path / "db"))
    assert "11 records, but 12 checksums" in problems and "11 records, the manifest says 12" in problems


# ---- the other tools ----


@pytest.mark.parametrize("flags", [[], ["--backend=leveldb"], ["-backend", "leveldb"]])
def test_the_mean_is_that_of_the_lmdb(flags, tmp_path, capsys):
    convert(tmp_path / "db", "--backend=leveldb", *SIZE)
    assert image_mean.main([*flags, str(tmp_path / "db"), str(tmp_path / "mean")]) == 0
    want = read_mean(golden("tools/mean.binaryproto"))
    assert abs(read_mean(tmp_path / "mean") - want).max() <= 1e-4
    assert f"mean_value channel [2]: {want[2].mean():g}" in capsys.readouterr().out


def test_a_mean_of_the_wrong_backend_is_refused(tmp_path):
    with pytest.raises(ValueError, match="raw_color_lmdb is an LMDB, not a LevelDB"):
        image_mean.main(["--backend=leveldb", str(golden("tools/raw_color_lmdb"))])


def test_info_and_part_read_it(tmp_path):
    records = convert(tmp_path / "db", "--backend=leveldb", *SIZE)
    said = info.info(tmp_path / "db")
    assert "bytes, a LevelDB" in said and "shape    3 x 48 x 40 (12)" in said and "backend leveldb" in said
    assert part.main([str(tmp_path / "db"), str(tmp_path / "lmdb"), "0.25", "1"]) == 0
    assert list(LmdbReader(tmp_path / "lmdb").items()) == records[3:]


def test_a_missing_package_is_said_before_anything_is_written(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(ValueError, match=r"LevelDB needs the package plyvel: pip install 'crnn\[leveldb\]'"):
        convert(tmp_path / "db", "--backend=leveldb")
    assert os.listdir(tmp_path) == []
