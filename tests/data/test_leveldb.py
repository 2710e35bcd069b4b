"""LevelDB reader and writer: order, several readers at once, nothing written by reading, damage found."""

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys

import pytest

from crnn.data import leveldb_reader
from crnn.data.databases import kind, open_database, size
from crnn.data.datum import encode
from crnn.data.leveldb_reader import LevelDbReader
from crnn.data.leveldb_writer import LevelDbWriter
from crnn.data.lmdb_reader import LmdbReader
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data.loader import BatchLoader
from crnn.proto import pb
from crnn.testing import golden

plyvel = pytest.importorskip("plyvel", reason="needs plyvel: any machine with crnn[leveldb]")


@pytest.fixture
def records():
    return [(b"%08d_x" % i, bytes([i % 251]) * (i * 370 % 50000)) for i in range(120)]


@pytest.fixture
def database(tmp_path, records):
    with LevelDbWriter(tmp_path / "db") as db:
        for key, value in records:
            db.put(key, value)
    return tmp_path / "db"


@pytest.fixture
def of_caffes_shape(tmp_path, records):
    """As Caffe leaves one: all of it in the log, since its write buffer holds 256 MB."""
    options = {"block_size": 65536, "write_buffer_size": 268435456, "max_open_files": 100}
    db = plyvel.DB(str(tmp_path / "caffe"), create_if_missing=True, **options)
    for key, value in records:
        db.put(key, value)
    db.close()
    return tmp_path / "caffe"


def files(folder) -> dict:
    return {name: (folder / name).read_bytes() for name in os.listdir(folder)}


def test_records_come_back_in_key_order(tmp_path):
    with LevelDbWriter(tmp_path / "db") as db:
        for key in (b"b", b"c", b"a"):
            db.put(key, b"value of " + key)
    reader = LevelDbReader(tmp_path / "db")
    assert len(reader) == 3
    assert [reader.key(i) for i in range(3)] == [b"a", b"b", b"c"]
    assert reader.read(1) == reader.get(b"b") == b"value of b" and reader.get(b"d") is None


@pytest.mark.parametrize("start", [0, 1, 119, 120])
def test_items_start_anywhere(database, records, start):
    assert list(LevelDbReader(database).items(start)) == records[start:]


def test_index_past_the_end(database):
    with pytest.raises(IndexError):
        LevelDbReader(database).read(120)


def test_reads_what_only_the_log_holds(of_caffes_shape, records):
    assert not list(of_caffes_shape.glob("*.ldb"))
    assert list(LevelDbReader(of_caffes_shape).items()) == records


@pytest.mark.parametrize("name", ["database", "of_caffes_shape"])
def test_reading_changes_no_file(name, request):
    folder = request.getfixturevalue(name)
    before = files(folder)
    assert len(list(LevelDbReader(folder).items())) == 120
    assert files(folder) == before


def test_a_folder_that_cannot_be_written_is_read(database, records):
    os.chmod(database, 0o555)
    assert list(LevelDbReader(database).items()) == records


def test_tables_of_old_caffes_are_named_sst(database, records):
    plyvel.DB(str(database)).close()  # moves the log into a table
    for table in database.glob("*.ldb"):
        table.rename(table.with_suffix(".sst"))
    assert list(database.glob("*.sst")) and list(LevelDbReader(database).items()) == records


def test_two_readers_and_another_process_at_once(database, records):
    one, two = LevelDbReader(database).items(), LevelDbReader(database).items()
    assert [next(one), next(two), next(one)] == [records[0], records[0], records[1]]
    program = (
        "import sys; from crnn.data.leveldb_reader import LevelDbReader as R; print(len(R(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", program, database], capture_output=True, text=True)
    assert done.stdout == "120\n", done.stderr
    other = plyvel.DB(str(database))  # somebody has it open and locked
    assert list(LevelDbReader(database).items()) == records
    other.close()


def test_readers_are_pickled_copied_and_closed(database, records):
    reader = LevelDbReader(database)
    for twin in (pickle.loads(pickle.dumps(reader)), copy.deepcopy(reader)):
        assert twin.read(3) == records[3][1]
    items = reader.items()
    next(items)
    reader.close()
    assert next(items) == records[1] and reader.read(2) == records[2][1]


def test_a_forked_child_opens_its_own(database, records):
    reader = LevelDbReader(database)
    reader.read(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(reader.read, range(6)) == [value for _, value in records[:6]]
    assert reader.read(7) == records[7][1]


def test_the_links_go_with_the_reader(database, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(leveldb_reader.tempfile, "tempdir", str(tmp_path / "tmp"))
    reader = LevelDbReader(database)
    reader.read(0)
    assert len(os.listdir(tmp_path / "tmp")) == 1
    del reader
    assert os.listdir(tmp_path / "tmp") == []


def test_missing_database(tmp_path):
    with pytest.raises(OSError, match=r"nowhere is no LevelDB database: there is no such folder"):
        LevelDbReader(tmp_path / "nowhere")
    with pytest.raises(OSError, match="the folder holds no file CURRENT"):
        LevelDbReader(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="it is a file; name the folder"):
        LevelDbReader(tmp_path / "file")


def test_without_plyvel_the_cure_is_said(database, monkeypatch):
    monkeypatch.setitem(sys.modules, "plyvel", None)
    for make in (LevelDbReader, LevelDbWriter):
        with pytest.raises(
            ValueError, match=r"^LevelDB needs the package plyvel: pip install 'crnn\[leveldb\]'$"
        ):
            make(database)


@pytest.fixture
def table(database):
    """The one table of a database that was opened again, which moves its log there."""
    plyvel.DB(str(database)).close()
    (file,) = database.glob("*.ldb")
    return file


def test_a_bit_flipped_in_a_table_is_found(database, table):
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 1
    table.write_bytes(data)
    with pytest.raises(OSError, match=r"db is damaged \(.*\): copy or convert it again"):
        list(LevelDbReader(database).items())


def test_a_truncated_table_is_found(database, table):
    os.truncate(table, 1000)
    with pytest.raises(OSError, match=r"db is damaged \(.*\): copy or convert it again"):
        list(LevelDbReader(database).items())


def test_a_missing_table_is_named(database, table):
    table.unlink()
    with pytest.raises(OSError, match=rf"db is damaged \(.*missing files; e.g.: {table.name}"):
        LevelDbReader(database).read(0)


@pytest.mark.parametrize("content", [b"", b"MANIFEST-999999\n", b"\x00" * 300])
def test_a_damaged_current_is_found(database, content):
    (database / "CURRENT").write_bytes(content)
    with pytest.raises(OSError, match=r"db is damaged: CURRENT names no file MANIFEST-<number>"):
        LevelDbReader(database)


def test_a_bit_flipped_in_the_log_is_found(of_caffes_shape):
    (log,) = of_caffes_shape.glob("*.log")
    data = bytearray(log.read_bytes())
    data[len(data) // 2] ^= 1
    log.write_bytes(data)
    with pytest.raises(OSError, match="caffe is damaged"):
        list(LevelDbReader(of_caffes_shape).items())


# ---- writing ----


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), LevelDbWriter(tmp_path / "db") as db:
        db.put(b"key", b"value")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_database_is_not_touched(database, records):
    with pytest.raises(FileExistsError, match="db exists: remove it"), LevelDbWriter(database):
        pass
    assert list(LevelDbReader(database).items()) == records


def test_two_writers_of_one_name(tmp_path):
    with LevelDbWriter(tmp_path / "db") as db:
        db.put(b"key", b"value")
        with pytest.raises(OSError, match="being written by another process"), LevelDbWriter(tmp_path / "db"):
            pass
    assert len(LevelDbReader(tmp_path / "db")) == 1


@pytest.mark.parametrize("between", [0, 1500])
def test_a_key_put_twice(tmp_path, between):
    with pytest.raises(ValueError, match="b'twice' was put twice"), LevelDbWriter(tmp_path / "db") as db:
        for key in (b"twice", *(b"%d" % i for i in range(between)), b"twice"):
            db.put(key, b"")
    assert list(tmp_path.iterdir()) == []


def test_plyvel_reads_what_was_written(database, records):
    with plyvel.DB(str(database), create_if_missing=False) as db:
        assert list(db) == records


# ---- told apart ----


def test_databases_are_told_apart_and_opened(database, tmp_path):
    raw = golden("tools/raw_color_lmdb")
    assert (kind(database), kind(raw), kind(tmp_path)) == ("leveldb", "lmdb", None)
    assert isinstance(open_database(database), LevelDbReader)
    assert isinstance(open_database(raw), LmdbReader)
    with pytest.raises(ValueError, match=r"db is a LevelDB, not an LMDB$"):
        open_database(database, "lmdb")
    with pytest.raises(ValueError, match=r"raw_color_lmdb is an LMDB, not a LevelDB$"):
        open_database(raw, "leveldb")
    with pytest.raises(OSError, match="nowhere is no LevelDB database"):
        open_database("nowhere", "leveldb")
    assert size(raw) == (raw / "data.mdb").stat().st_size


def test_batches_equal_those_of_an_lmdb(tmp_path):
    """The same order, wraps, crops and mirrors, from any position."""
    for writer in (LmdbWriter, LevelDbWriter):
        with writer(tmp_path / writer.__name__) as db:
            for i in range(7):
                image = (i * 7 + i % 3) * 3 % 251
                db.put(b"%08d_%d" % (i, 9 - i), encode(_image(image), i))
    param = pb.TransformationParameter(crop_size=3, mirror=True)
    one, two = (
        BatchLoader(tmp_path / w.__name__, 3, param, pb.TRAIN, seed=5) for w in (LmdbWriter, LevelDbWriter)
    )
    for position in (None, 8):
        for loader in (one, two) if position else ():
            loader.seek(position)
        for _ in range(4):
            (x, labels), (y, others) = one.next(), two.next()
            assert x.tobytes() == y.tobytes() and labels.tolist() == others.tolist()
    assert len(one) == len(two) == 7


def _image(first: int):
    import numpy as np

    return ((np.arange(60) + first) % 251).astype(np.uint8).reshape(3, 4, 5)
