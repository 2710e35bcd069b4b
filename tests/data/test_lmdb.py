"""LMDB reader and writer: order, growth, sharing, and no SIGBUS."""

import copy
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import lmdb
import pytest

from crnn.data import lmdb_reader
from crnn.data.lmdb_reader import LmdbReader, check
from crnn.data.lmdb_writer import Lmdb, LmdbWriter
from crnn.testing import golden


@pytest.fixture
def records():
    return [(b"%08d_x" % i, bytes([i % 251]) * (i * 37 % 5000)) for i in range(120)]


@pytest.fixture
def database(tmp_path, records):
    with LmdbWriter(tmp_path / "db") as db:
        for key, value in records:
            db.put(key, value)
    return tmp_path / "db"


def test_records_come_back_in_key_order(tmp_path):
    with LmdbWriter(tmp_path / "db") as db:
        for key in (b"b", b"c", b"a"):
            db.put(key, b"value of " + key)
    reader = LmdbReader(tmp_path / "db")
    assert len(reader) == 3
    assert [reader.key(i) for i in range(3)] == [b"a", b"b", b"c"]
    assert reader.read(1) == b"value of b"


@pytest.mark.parametrize("start", [0, 1, 119, 120])
def test_items_start_anywhere(database, records, start):
    assert list(LmdbReader(database).items(start)) == records[start:]


def test_records_by_number_and_without_copies(database, records):
    reader = LmdbReader(database)
    held = reader.hold()
    views = list(reader.items(3, copy=False)) + list(reader.at([7, 0, 119], copy=False))
    reader.close()
    gc.collect()  # the map stays while it is held
    assert [(key, bytes(value)) for key, value in views] == [*records[3:], *(records[i] for i in (7, 0, 119))]
    assert all(isinstance(value, memoryview) for _, value in views)
    assert list(reader.at([5, 5])) == [records[5]] * 2
    del held


def test_index_past_the_end(database):
    with pytest.raises(IndexError):
        LmdbReader(database).read(120)


def test_reads_what_caffe_wrote():
    reader = LmdbReader(golden("tools/raw_color_lmdb"))
    assert len(reader) == 12
    assert reader.key(3) == b"00000003_astronaut/3 crop.jpg"


def test_the_newer_of_the_two_meta_pages_counts(tmp_path):
    """Transactions write them in turn, and later ones reuse pages, so that the file need not grow."""
    engine, counted = Lmdb(), []
    engine.open(str(tmp_path))
    for number in range(8):
        engine.put([(b"%d" % number, b"value")])
        counted.append(check(tmp_path))
    engine.close()
    assert counted == [1, 2, 3, 4, 5, 6, 7, 8]


# ---- sharing ----


def test_two_readers_share_one_environment(database, tmp_path):
    os.symlink(database, tmp_path / "link")
    one, two = LmdbReader(database), LmdbReader(tmp_path / "link")
    assert next(one.items()) == next(two.items())
    one.close()
    assert two.read(0) == one.read(0)


def test_the_environment_closes_with_its_last_reader(database):
    one, two = LmdbReader(database), LmdbReader(database)
    one.read(0), two.read(0)
    one.close()
    assert len(lmdb_reader._environments) == 1
    del two
    gc.collect()
    assert len(lmdb_reader._environments) == 0


def test_a_reader_closed_during_a_scan_ends_it_unharmed(database, records):
    reader = LmdbReader(database)
    scan = reader.items()
    next(scan)
    reader.close()
    assert list(scan) == records[1:]


def test_a_new_database_of_the_same_name_is_seen(database):
    old = LmdbReader(database)
    old.read(0)
    shutil.rmtree(database)
    with LmdbWriter(database) as db:
        db.put(b"new", b"value")
    assert list(LmdbReader(database).items()) == [(b"new", b"value")]


def test_readers_can_be_pickled_and_copied_while_open(database):
    reader = LmdbReader(database)
    reader.read(0)
    assert pickle.loads(pickle.dumps(reader)).read(5) == reader.read(5)
    assert copy.deepcopy(reader).read(5) == reader.read(5)


def test_a_relative_path_survives_chdir(database, monkeypatch):
    monkeypatch.chdir(database.parent)
    reader = LmdbReader("db")
    monkeypatch.chdir("/")
    assert len(reader.read(7)) == 7 * 37


def _total(reader: LmdbReader) -> int:
    return sum(len(value) for _, value in reader.items()) + len(reader.read(3))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_read_what_the_parent_has_open(database, records, method):
    reader = LmdbReader(database)
    other = LmdbReader(database)
    scan = reader.items()
    next(scan)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_total, [reader, other, reader]) == [_total(reader)] * 3
    assert next(scan) == records[1]


def _by_eight_threads(reader: LmdbReader) -> set[int]:
    with ThreadPoolExecutor(8) as pool:
        return set(pool.map(_total, [reader] * 8))


def test_sixty_four_readers_that_stay_read_at_the_same_time(database):
    """Eight processes of eight threads; each process reads twice, as persistent workers do."""
    reader = LmdbReader(database)
    want = _total(reader)
    with multiprocessing.get_context("fork").Pool(8) as pool:
        for _ in range(2):
            assert pool.map(_by_eight_threads, [reader] * 8, chunksize=1) == [{want}] * 8


def test_threads_read_at_the_same_time(database):
    want = _total(LmdbReader(database))

    def work(_):  # opens and closes all the time: the last reader closes the environment
        return _total(LmdbReader(database))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(400))) == {want}


# ---- damage ----


def test_truncated_anywhere_is_an_error_and_never_a_signal(database):
    whole = (database / "data.mdb").read_bytes()
    sizes = {0, 1, 15, 16, 151, 152, 160, 4095, 4096, 4097, 8191, 8192, len(whole) - 4096, len(whole) - 1}
    sizes |= set(range(0, len(whole), len(whole) // 200))
    program = """
import sys
from concurrent.futures import ThreadPoolExecutor
from crnn.data.lmdb_reader import LmdbReader
path, sizes = sys.argv[1], map(int, sys.argv[2:])
for size in sizes:
    with open(path + "/data.mdb", "r+b") as file:
        file.truncate(size)
    try:
        sum(len(value) for _, value in LmdbReader(path).items())
        sys.exit(f"{size} bytes were read without an error")
    except OSError as error:
        assert path in str(error) and "convert" in str(error), error
"""
    down = [str(size) for size in sorted(sizes, reverse=True)]
    result = subprocess.run([sys.executable, "-c", program, database, *down], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr or signal.Signals(-result.returncode)


def test_missing_database(tmp_path):
    with pytest.raises(OSError, match=r"nowhere is no LMDB database: there is no such folder"):
        LmdbReader(tmp_path / "nowhere")


def test_an_empty_folder_a_file_and_a_leveldb_are_told_apart(tmp_path):
    with pytest.raises(OSError, match=r"holds no data\.mdb"):
        check(tmp_path)
    (tmp_path / "CURRENT").touch()
    with pytest.raises(OSError, match="LevelDB; convert the data again"):
        check(tmp_path)
    with pytest.raises(OSError, match="name the folder"):
        check(tmp_path / "CURRENT")


@pytest.mark.parametrize(
    "content", [b"no database" * 1000, bytes(20000), struct.pack("<I", 0xBEEFC0DE) * 5000]
)
def test_other_files_named_data_mdb(tmp_path, content):
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(OSError, match=r"data\.mdb is damaged or not of LMDB 0\.9|LMDB 1\.0"):
        check(tmp_path)


@pytest.mark.skipif(int(lmdb.__version__.split(".")[0]) < 3, reason="lmdb 3 ships the 1.0 engine")
def test_the_format_of_lmdb_1_0_is_named(tmp_path):
    with lmdb.open(str(tmp_path), lib_version=1) as env, env.begin(write=True) as txn:
        txn.put(b"key", b"value")
    with pytest.raises(OSError, match=r"written by LMDB 1\.0, which Caffe cannot read"):
        LmdbReader(tmp_path)


def test_a_page_scribbled_over_is_an_error_that_names_the_database(database):
    with open(database / "data.mdb", "r+b") as file:
        file.seek(2 * 4096)
        while chunk := file.read(4096):
            file.seek(-len(chunk), os.SEEK_CUR)
            file.write(b"\xa5" * len(chunk))
    with pytest.raises(OSError, match="db is damaged"):
        list(LmdbReader(database).items())


# ---- writing ----


def test_the_map_grows(tmp_path):
    with LmdbWriter(tmp_path / "db", map_size=1 << 16) as db:
        for i in range(2500):
            db.put(b"%08d" % i, b"x" * 1000)
    assert len(LmdbReader(tmp_path / "db")) == 2500
    assert list(LmdbReader(tmp_path / "db").items())[-1] == (b"00002499", b"x" * 1000)


def test_large_records_are_committed_before_they_fill_the_memory(tmp_path):
    with LmdbWriter(tmp_path / "db") as db:
        for i in range(5):
            db.put(b"%d" % i, bytes(20 << 20))
        assert len(db._pending) < 4


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), LmdbWriter(tmp_path / "db") as db:
        db.put(b"key", b"value")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_database_is_not_touched(database, records):
    with pytest.raises(FileExistsError, match="db exists: remove it"), LmdbWriter(database):
        pass
    assert list(LmdbReader(database).items()) == records


def test_two_writers_of_one_name(tmp_path):
    with LmdbWriter(tmp_path / "db") as db:
        db.put(b"key", b"value")
        with pytest.raises(OSError, match="being written by another process"), LmdbWriter(tmp_path / "db"):
            pass
    assert len(LmdbReader(tmp_path / "db")) == 1


def test_leftovers_of_a_killed_writer_are_cleared_but_nothing_else(tmp_path):
    (tmp_path / "db.partial").mkdir()
    (tmp_path / "db.partial" / "data.mdb").write_bytes(b"half a database")
    (tmp_path / "db.partial" / "lock.mdb").touch()
    with LmdbWriter(tmp_path / "db") as db:
        db.put(b"key", b"value")
    assert len(LmdbReader(tmp_path / "db")) == 1
    (tmp_path / "other.partial").mkdir()
    (tmp_path / "other.partial" / "thesis.tex").touch()
    with pytest.raises(OSError, match="more than an unfinished database"), LmdbWriter(tmp_path / "other"):
        pass
    assert (tmp_path / "other.partial" / "thesis.tex").exists()


def test_keys_that_lmdb_cannot_take(tmp_path):
    with (
        pytest.raises(ValueError, match="512 bytes, LMDB takes 1 to 511: shorten"),
        LmdbWriter(tmp_path / "a") as db,
    ):
        db.put(b"x" * 512, b"")
    with pytest.raises(ValueError, match="b'twice' was put twice"), LmdbWriter(tmp_path / "b") as db:
        db.put(b"twice", b"1")
        db.put(b"twice", b"2")
    assert list(tmp_path.iterdir()) == []


def test_files_have_the_format_that_caffe_reads(database, monkeypatch, tmp_path):
    monkeypatch.setenv("LMDB_DEFAULT_LIB_VERSION", "1")
    with LmdbWriter(tmp_path / "other") as db:
        db.put(b"key", b"value")
    assert check(tmp_path / "other") == 1
    assert os.listdir(tmp_path / "other") == ["data.mdb"]
