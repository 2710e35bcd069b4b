"""The mean image: the real Caffe's, and exact sums."""

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools import image_mean
from crnn.proto import pb
from crnn.proto.blobs import read_mean
from crnn.testing import golden


@pytest.fixture
def database(tmp_path):
    def write(*images):
        with LmdbWriter(tmp_path / "db") as db:
            for i, image in enumerate(images):
                db.put(b"%08d" % i, encode(image, 0))
        return str(tmp_path / "db")

    return write


def test_the_mean_equals_that_of_caffe(tmp_path, capsys):
    assert image_mean.main([str(golden("tools/raw_color_lmdb")), str(tmp_path / "mean")]) == 0
    want = read_mean(golden("tools/mean.binaryproto"))
    np.testing.assert_allclose(read_mean(tmp_path / "mean"), want, rtol=0, atol=1e-4)
    assert f"mean_value channel [2]: {want[2].mean():g}" in capsys.readouterr().out


def test_the_file_has_the_fields_that_caffe_writes(tmp_path):
    image_mean.main([str(golden("tools/raw_color_lmdb")), str(tmp_path / "mean")])
    want = pb.BlobProto.FromString(golden("tools/mean.binaryproto").read_bytes())
    got = pb.BlobProto.FromString((tmp_path / "mean").read_bytes())
    assert [(f.name, v) for f, v in got.ListFields() if f.name != "data"] == [
        (f.name, v) for f, v in want.ListFields() if f.name != "data"
    ]


def test_image_files_are_decoded(tmp_path):
    want = image_mean.image_mean(golden("tools/raw_color_lmdb"))
    assert want.shape == (3, 48, 40)
    with pytest.raises(ValueError, match=r"record b'00000001_astronaut/1.jpg' is uint8 .*, the first uint8"):
        image_mean.image_mean(golden("tools/encoded_as_is_lmdb"))


def test_sums_are_exact(database, monkeypatch):
    monkeypatch.setattr(image_mean, "CHUNK_BYTES", 100)  # many chunks, the last one short
    images = np.random.default_rng(0).integers(0, 256, (101, 2, 3, 4), np.uint8)
    np.testing.assert_array_equal(image_mean.image_mean(database(*images)), images.mean(axis=0))


def test_means_of_float_records(database):
    images = np.random.default_rng(0).random((7, 2, 3, 4), np.float32)
    got = image_mean.image_mean(database(*images))
    np.testing.assert_allclose(got, images.mean(axis=0, dtype=np.float64), rtol=1e-12)


def test_without_a_file_it_only_prints(database, tmp_path, capsys):
    image_mean.main(["-backend", "lmdb", database(np.full((1, 2, 2), 7, np.uint8))])
    assert capsys.readouterr().out == "mean_value channel [0]: 7\n"


def test_mistakes_are_one_sentence(crnn, tmp_path):
    result = crnn("data", "mean", tmp_path / "nowhere", tmp_path / "mean")
    assert result.returncode == 1
    assert result.stderr.startswith(
        f"crnn data: {tmp_path}/nowhere is no LMDB database: there is no such folder"
    )
    assert not (tmp_path / "mean").exists()
