"""BatchLoader with a label_source: each record's map comes with it, cut as its image is."""

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.records import Records
from crnn.proto import pb
from tests.data.ten_records import PLAIN, write


@pytest.fixture
def maps(tmp_path):
    """Label maps [1, 5, 6] for the ten records: map n holds n at every place but its corner, 255."""

    def make(count=10, shape=(1, 5, 6), dtype=np.uint8):
        found = np.arange(count, dtype=dtype).reshape(-1, 1, 1, 1) * np.ones(shape, dtype)
        found[:, 0, 0, 0] = 255
        write(tmp_path / "maps", [encode(one, 0) for one in found])
        return str(tmp_path / "maps")

    return make


def test_a_record_comes_with_the_map_of_its_key(loader, maps):
    one = loader(transform=PLAIN, label_source=maps())
    assert one.top_shapes[1] == (one.batch_size, 1, 5, 6)
    _, labels = one.records(3, 2)
    assert labels.shape == (2, 1, 5, 6) and labels.dtype == np.uint8
    assert [set(map_.ravel().tolist()) for map_ in labels] == [{3, 255}, {4, 255}]
    data, top = one.next()
    assert top.shape == (len(data), 1, 5, 6) and top.dtype == np.float32
    assert top[:, 0, 1, 1].tolist() == list(range(len(data)))


def test_maps_are_cut_and_flipped_as_their_images(source, loader, tmp_path):
    """The maps hold the images' own first channel: after the crop they still do."""
    images, _ = Records(source).batch(0, 10)
    write(tmp_path / "maps", [encode(image[:1], 0) for image in images])
    data, labels = loader(40, label_source=str(tmp_path / "maps")).next()
    np.testing.assert_array_equal(data[:, :1], labels)
    assert len({image.tobytes() for image in data}) > 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shape": (1, 5, 5)},
            r"holds uint8 \(1, 5, 5\), for images \(2, 5, 6\) it must be uint8 \(1, 5, 6\)",
        ),
        ({"shape": (2, 5, 6)}, r"holds uint8 \(2, 5, 6\)"),
        ({"dtype": np.float32}, r"holds float32 \(1, 5, 6\)"),
    ],
)
def test_maps_that_do_not_fit(loader, maps, options, message):
    with pytest.raises(ValueError, match=message):
        loader(transform=PLAIN, label_source=maps(**options))


def test_a_record_without_a_map_is_named(loader, maps):
    one = loader(transform=PLAIN, label_source=maps(4))
    with pytest.raises(ValueError, match="maps: there is no record b'00000004_x'; convert images and maps"):
        one.records(3, 2)


def test_a_damaged_map_is_named(loader, tmp_path):
    whole, damaged = encode(np.zeros((1, 5, 6), np.uint8), 0), pb.Datum(channels=1, height=5, width=6)
    write(tmp_path / "maps", [*[whole] * 4, damaged.SerializeToString()])
    one = loader(transform=PLAIN, label_source=str(tmp_path / "maps"))
    with pytest.raises(ValueError, match="maps: record b'00000004_x' is a Datum of shape"):
        one.records(3, 2)
