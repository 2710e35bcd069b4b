"""crnn data verify: each kind of damage is found and named, and nothing else is."""

import json
import shutil

import lmdb
import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.lmdb_reader import LmdbReader
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools import cifar10
from crnn.data_tools.info import info
from crnn.data_tools.verify import verify
from crnn.proto.blobs import write_mean
from crnn.testing import golden


@pytest.fixture
def database(unpack, tmp_path):
    """A database of 60 images with mean, checksums and manifest."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (72, 3073), np.uint8)
    rows[:, 0] %= 4
    files = {
        name: rows[12 * i : 12 * i + 12].tobytes() for i, name in enumerate([*cifar10.TRAIN, cifar10.TEST])
    }
    unpack(tmp_path / "in", {**files, cifar10.NAMES: b"a\nb\nc\nd\n"})
    cifar10.main([str(tmp_path / "in"), str(tmp_path / "out")])
    return tmp_path / "out/train_lmdb"


def change(path, key: bytes, value: bytes | None) -> None:
    """Puts another value, or none, behind the converter's back."""
    engine = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}
    with lmdb.open(str(path), lock=False, **engine) as env, env.begin(write=True) as txn:
        txn.delete(key) if value is None else txn.put(key, value)


def datum(label: int = 0, shape=(3, 32, 32), dtype=np.uint8) -> bytes:
    return encode(np.zeros(shape, dtype), label)


def test_a_good_database(database, crnn):
    assert verify(database) == []
    result = crnn("data", "verify", database)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{database}: 60 records are good (checksums, labels and shapes)\n"


@pytest.mark.skipif(int(lmdb.__version__.split(".")[0]) < 3, reason="needs lmdb 3.0, which checks pages")
def test_damaged_pages_are_found_before_lmdb_believes_them(database, crnn):
    with open(database / "data.mdb", "r+b") as file:
        for page in range(2, len(file.read()) // 4096):
            file.seek(4096 * page + 16)  # behind a page's header: where its records are
            file.write(b"\xfe" * 100)
    result = crnn("data", "verify", database)
    assert result.returncode == 1 and "its pages are damaged: " in result.stdout


def test_one_flipped_bit(database, crnn):
    value = LmdbReader(database).read(7)
    data = (database / "data.mdb").read_bytes()
    at = data.index(value[100:200])
    (database / "data.mdb").write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    assert verify(database) == ["record b'00007' is not what was written: its crc32 differs"]
    result = crnn("data", "verify", database)
    assert result.returncode == 1 and "1 problems\n  record b'00007'" in result.stdout


def test_a_record_changed_removed_or_added(database):
    change(database, b"00003", datum(1))
    assert verify(database) == ["record b'00003' is not what was written: its crc32 differs"]
    change(database, b"00003", None)
    found = verify(database)
    assert "59 records, but 60 checksums" in found and "59 records, the manifest says 60" in found


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (datum(4), "record b'00000' has label 4, outside 0 to 3"),
        (datum(-1), "record b'00000' has label -1, outside 0 to 3"),
        (b"\xff\xff", "record b'00000' is not a Datum"),
        (datum(shape=(3, 8, 8)), "records of 2 shapes, the manifest says [3, 32, 32]"),
        (encode(np.full((3, 32, 32), np.nan), 0), "record b'00000' holds values that are not finite"),
    ],
)
def test_what_is_found_without_checksums_too(database, value, what):
    change(database, b"00000", value)
    (database / "crc32").unlink()
    found = verify(database)
    assert "its checksums are missing" in found
    assert what in found


def test_labels_are_counted_against_the_manifest(database):
    manifest = json.loads((database / "manifest.json").read_text())
    manifest["labels"]["0"] += 1
    (database / "manifest.json").write_text(json.dumps(manifest))
    assert verify(database) == ["its labels are not those the manifest counts"]


def test_the_mean(database):
    mean = database.parent / "mean.binaryproto"
    write_mean(mean, np.full((3, 32, 32), np.nan))
    assert verify(database) == [f"its mean {mean} holds values that are not finite"]
    write_mean(mean, np.zeros((3, 8, 8)))
    assert verify(database) == [f"its mean {mean} is [3, 8, 8], the records [3, 32, 32]"]
    mean.unlink()
    assert verify(database) == [f"its mean {mean} is missing: crnn data mean makes it"]


@pytest.mark.parametrize("content", [b"no such thing", b"[]", b"[" * 100_000], ids=range(3))
@pytest.mark.parametrize("name", ["crc32", "manifest.json"])
def test_damaged_side_files(database, name, content):
    (database / name).write_bytes(content)
    with pytest.raises(OSError, match=rf"{name} is damaged"):
        verify(database)


FIELDS = ["dataset", "made_by", "decoder", "options", "inputs", "listed", "records", "official"]
FIELDS += ["labels", "shape", "mean", "crc32", "skipped", "oddities"]


@pytest.mark.parametrize("read", [verify, info])
@pytest.mark.parametrize("field", FIELDS)
def test_a_manifest_without_a_field(database, read, field):
    path = database / "manifest.json"
    path.write_text(path.read_text().replace(f'"{field}":', f'"{field.upper()}":', 1))
    with pytest.raises(OSError, match=rf"manifest\.json is damaged \('{field}' is missing or odd\)"):
        read(database)


@pytest.mark.parametrize(
    "field",
    [
        {"dataset": None},
        {"decoder": {"opencv": "5.0"}},
        {"options": []},
        {"inputs": {"list": 7}},
        {"listed": "60"},
        {"official": True},
        {"classes": "4"},
        {"map_classes": [4]},
        {"labels": {"0": "15"}},
        {"skipped": [[7, "x.jpg"]]},
        {"oddities": [{"name": "x.jpg"}]},
    ],
    ids=str,
)
@pytest.mark.parametrize("read", [verify, info])
def test_a_manifest_with_a_field_of_another_form(database, read, field):
    path = database / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **field}))
    with pytest.raises(
        OSError, match=rf"manifest\.json is damaged \('{next(iter(field))}' is missing or odd\)"
    ):
        read(database)


def test_a_truncated_database_is_an_error_and_not_a_signal(database, crnn):
    data = (database / "data.mdb").read_bytes()
    (database / "data.mdb").write_bytes(data[: len(data) // 2])
    result = crnn("data", "verify", database)
    assert result.returncode == 1 and "data.mdb is truncated" in result.stderr


def test_a_map_beyond_its_classes(tmp_path, database):
    with LmdbWriter(tmp_path / "db") as db:
        for i, value in enumerate((20, 255, 21)):
            db.put(b"%d" % i, encode(np.full((1, 4, 4), value, np.uint8), 0))
    manifest = json.loads((database / "manifest.json").read_text())
    (tmp_path / "db/manifest.json").write_text(json.dumps({**manifest, "map_classes": 21}))
    assert "record b'2' is a map with the value 21, beyond 21 classes" in verify(tmp_path / "db")


def test_a_database_of_caffe_has_no_checksums(tmp_path, crnn):
    shutil.copytree(golden("tools/encoded_as_is_lmdb"), tmp_path / "db")
    result = crnn("data", "verify", "--no-decode", tmp_path / "db")
    assert result.returncode == 0
    assert "12 records are good (no manifest: only decoding and labels)" in result.stdout


def test_info_shows_the_manifest(database):
    said = info(database)
    assert "made from cifar10, 60 inputs" in said and "official 50,000 records" in said
    assert "input    data_batch_1.bin, bytes 36876, sha256 " in said
    assert "mean     ../mean.binaryproto" in said and "OpenCV" in said


@pytest.fixture
def plain(tmp_path, monkeypatch):
    """Sixty records as Caffe's converter leaves them, nothing beside them; under an lmdb before 3.0."""
    monkeypatch.setattr("crnn.data_tools.verify._pages", lambda path: [])
    with LmdbWriter(tmp_path / "plain") as db:
        for i in range(60):
            db.put(b"key%05d" % i, datum(i))
    return tmp_path / "plain"


def test_records_that_cannot_be_reached(plain):
    file = plain / "data.mdb"
    data = bytearray(file.read_bytes())
    for meta in (0, 4096):  # both pages say how many there are
        entries = meta + 120
        assert int.from_bytes(data[entries : entries + 8], "little") in (0, 60)
        data[entries : entries + 8] = (61).to_bytes(8, "little")
    file.write_bytes(data)
    assert verify(plain) == ["60 records can be reached, it says it holds 61"]


def test_keys_out_of_order(plain):
    file = plain / "data.mdb"
    file.write_bytes(file.read_bytes().replace(b"key00007", b"key00039"))
    assert verify(plain) == ["record b'key00008' comes after b'key00039': its pages are out of order"]
