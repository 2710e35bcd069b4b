"""crnn data info."""

import numpy as np

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools.info import info
from crnn.testing import golden


def test_what_a_database_holds():
    path = golden("tools/raw_color_lmdb")
    assert info(path).splitlines() == [
        str(path),
        "  records  12",
        "  size     110,592 bytes, an LMDB",
        "  shape    3 x 48 x 40 (12)",
        "  labels   0: 4, 1: 4, 2: 4",
        "  key      00000000_astronaut/0.jpg",
        "  key      00000001_astronaut/1.jpg",
        "  key      00000002_astronaut/2.png",
    ]


def test_image_files_and_many_labels(tmp_path):
    said = info(golden("tools/encoded_as_is_lmdb"))
    assert "shape    image files (12)" in said and "first    3 x 150 x 166" in said
    with LmdbWriter(tmp_path / "db") as db:
        for i in range(100):
            db.put(b"%d" % i, encode(np.zeros((1, 2, 2), np.uint8), i % 30))
    assert "labels   30, 0 to 29; 3 to 4 records each" in info(tmp_path / "db")


def test_an_empty_database(tmp_path):
    with LmdbWriter(tmp_path / "db"):
        pass
    assert "records  0" in info(tmp_path / "db")


def test_a_record_that_is_no_datum_is_named(crnn, tmp_path):
    with LmdbWriter(tmp_path / "db") as db:
        db.put(b"key", b"\xff")
    result = crnn("data", "info", tmp_path / "db")
    assert (result.returncode, result.stderr) == (
        1,
        f"crnn data: {tmp_path}/db: record b'key' is not a Datum\n",
    )
