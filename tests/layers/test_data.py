"""Data, Input, DummyData: the layers that make blobs."""

import numpy as np
import pytest
import torch

from crnn.data.datum import encode
from crnn.data.leveldb_writer import LevelDbWriter
from crnn.data.lmdb_reader import LmdbReader
from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto import pb


@pytest.fixture
def database(tmp_path):
    """Five records [2, 3, 4] with pixels 0..23 and labels 0..4."""
    with LmdbWriter(tmp_path / "five_lmdb") as writer:
        for label in range(5):
            writer.put(f"{label:08d}".encode(), encode(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), label))
    return tmp_path / "five_lmdb"


def data(source, text=""):
    return f'type: "Data" data_param {{ source: "{source}" backend: LMDB batch_size: 3 }} {text}'


def test_data_reads_in_order_round_and_round(make, database):
    layer = make(data(database, "transform_param { scale: 3 }"), tops=2)
    assert layer.top_shapes == [(3, 2, 3, 4), (3,)]
    (images, labels), (_, more) = layer(), layer()
    assert images.dtype == labels.dtype == np.float32
    assert images[1].ravel().tolist() == [3 * i for i in range(24)]
    assert [*labels, *more] == [0, 1, 2, 3, 4, 0]


@pytest.mark.parametrize("backend", ["", "backend: LEVELDB"])
def test_data_reads_a_leveldb_which_is_caffes_default(make, database, tmp_path, backend):
    pytest.importorskip("plyvel", reason="needs plyvel: any machine with crnn[leveldb]")
    with LevelDbWriter(tmp_path / "db") as writer:
        for key, value in LmdbReader(database).items():
            writer.put(key, value)
    want = make(data(database), tops=2)
    got = make(f'type: "Data" data_param {{ source: "{tmp_path}/db" {backend} batch_size: 3 }}', tops=2)
    for (x, labels), (y, others) in ((want(), got()) for _ in range(3)):
        assert x.tobytes() == y.tobytes() and labels.tolist() == others.tolist()


def test_data_of_the_other_backend_says_what_to_write(make, database, tmp_path):
    pytest.importorskip("plyvel", reason="needs plyvel: any machine with crnn[leveldb]")
    with pytest.raises(
        ValueError, match=r"is missing, for which Caffe takes LEVELDB, but .*: write `backend: LMDB`"
    ):
        make(f'type: "Data" data_param {{ source: "{database}" batch_size: 3 }}')
    with pytest.raises(
        ValueError, match=r"backend is LEVELDB, but .*five_lmdb is an LMDB: write `backend: LMDB`"
    ):
        make(f'type: "Data" data_param {{ source: "{database}" batch_size: 3 backend: LEVELDB }}')
    with LevelDbWriter(tmp_path / "db"):
        pass
    with pytest.raises(ValueError, match=r"backend is LMDB, but .* is a LevelDB: write `backend: LEVELDB`"):
        make(data(tmp_path / "db"))
    with pytest.raises(OSError, match=r"there is no database nowhere \(paths .*runs by its deploy prototxt"):
        make('type: "Data" data_param { source: "nowhere" batch_size: 3 }')


def test_data_without_a_label_top(make, database):
    assert make(data(database), tops=1).top_shapes == [(3, 2, 3, 4)]
    assert len(make(data(database), tops=1)()) == 1


def test_data_crops_the_centre_at_test_time(make, database):
    layer = make(data(database, "transform_param { scale: 2 crop_size: 1 }"), tops=2, phase=pb.TEST)
    assert layer.top_shapes[0] == (3, 2, 1, 1)
    assert layer()[0][0].ravel().tolist() == [2 * 5, 2 * 17]


def test_torch_seed_decides_the_random_crops(make, database):
    def crops(seed):
        torch.manual_seed(seed)
        layer = make(data(database, "transform_param { crop_size: 1 mirror: true }"), tops=2)
        return np.stack([layer()[0] for _ in range(4)])

    assert np.array_equal(crops(1), crops(1))
    assert not np.array_equal(crops(1), crops(2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_param { backend: LMDB batch_size: 1 }", "source is missing"),
        ('data_param { source: "x" backend: LMDB }', "batch_size must be at least 1"),
    ],
)
def test_bad_data_parameters(make, text, message):
    with pytest.raises(ValueError, match=message):
        make(f'type: "Data" {text}', tops=2)


def test_a_missing_database_is_named(make, tmp_path):
    with pytest.raises(OSError, match="no_lmdb"):
        make(data(tmp_path / "no_lmdb"), tops=2)


def test_input_shapes(make):
    one = make('type: "Input" input_param { shape { dim: 2 dim: 3 } }', tops=2)
    assert one.top_shapes == [(2, 3), (2, 3)]
    two = make('type: "Input" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } }', tops=2)
    assert two.top_shapes == [(2, 3), (2,)]
    with pytest.raises(ValueError, match=r"call net\(out0=\.\.\., out1=\.\.\.\)"):
        two()
    with pytest.raises(ValueError, match="one shape, or one for each of 3 tops, got 2"):
        make('type: "Input" input_param { shape { dim: 2 } shape { dim: 3 } }', tops=3)


def test_negative_shapes(make):
    with pytest.raises(ValueError, match=r"must not be negative, got \[\[2, -1\]\]"):
        make('type: "Input" input_param { shape { dim: 2 dim: -1 } }')


def test_dummy_data_draws_only_what_is_random(make):
    text = """type: "DummyData" dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 4 }
        data_filler { type: "gaussian" } data_filler { type: "constant" value: 7 } }"""
    layer = make(text, tops=2)
    assert layer.top_shapes == [(2, 3), (4,)]
    (a, sevens), (b, again) = layer(), layer()
    assert not a.equal(b)
    assert sevens.equal(torch.full((4,), 7.0)) and again is sevens


def test_dummy_data_in_the_old_words(make):
    layer = make('type: "DummyData" dummy_data_param { num: [5, 2] channels: 3 height: 1 width: 2 }', tops=2)
    assert layer.top_shapes == [(5, 3, 1, 2), (2, 3, 1, 2)]
    assert [top.count_nonzero() for top in layer()] == [0, 0]
    with pytest.raises(ValueError, match="needs one shape"):
        make('type: "DummyData"', tops=1)
    with pytest.raises(ValueError, match="either shape or num"):
        make('type: "DummyData" dummy_data_param { shape { dim: 1 } num: 1 channels: 1 height: 1 width: 1 }')
    with pytest.raises(ValueError, match="one data_filler, or one for each of 3 tops, got 2"):
        make('type: "DummyData" dummy_data_param { shape { dim: 1 } data_filler {} data_filler {} }', tops=3)


def memory(batch=2):
    return f'type: "MemoryData" memory_data_param {{ batch_size: {batch} channels: 1 height: 2 width: 3 }}'


def test_memory_data_gives_what_it_was_given_round_and_round(make):
    layer = make(memory(), tops=2)
    assert layer.top_shapes == [(2, 1, 2, 3), (2,)]
    with pytest.raises(ValueError, match=r"has no data yet: call its set_input_arrays\(data, labels\)"):
        layer()
    data = np.arange(24, dtype=np.float32).reshape(4, 1, 2, 3)
    layer.set_input_arrays(data, np.arange(4, dtype=np.float32))
    batches = [layer() for _ in range(3)]
    assert [label.tolist() for _, label in batches] == [[0, 1], [2, 3], [0, 1]]
    assert np.array_equal(batches[1][0], data[2:])
    layer.loader.seek(2)
    assert layer()[1].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("shape", "labels", "message"),
    [
        ((4, 1, 3, 2), 4, r"needs data \[n, 1, 2, 3\] and a label for each, got \[4, 1, 3, 2\] and \[4\]"),
        ((4, 1, 2, 3), 3, "a label for each"),
        ((3, 1, 2, 3), 3, "a multiple of batch_size 2 rows, got 3"),
        ((0, 1, 2, 3), 0, "a multiple of batch_size 2 rows, got 0"),
    ],
)
def test_memory_that_does_not_fit(make, shape, labels, message):
    with pytest.raises(ValueError, match=message):
        make(memory(), tops=2).set_input_arrays(np.zeros(shape), np.zeros(labels))
    with pytest.raises(ValueError, match="needs batch_size, channels, height and width"):
        make(memory(0), tops=2)
