"""HDF5 files as batches and back."""

import numpy as np
import pytest

from crnn.data.hdf5 import HDF5Files, HDF5Loader, HDF5Writer

h5py = pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")


@pytest.fixture
def source(tmp_path):
    """Two files of 3 and 4 rows: data [2] = (row, -row), label = row, counted over both."""
    for name, rows in (("a.h5", range(3)), ("b.h5", range(3, 7))):
        with h5py.File(tmp_path / name, "w") as file:
            file["data"] = np.array([[row, -row] for row in rows], np.float64)
            file["label"] = np.array(rows, np.int32)
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a.h5\n{tmp_path}/b.h5\n")
    return tmp_path / "list.txt"


def loader(source, batch=5, **options):
    return HDF5Loader(HDF5Files(source, ["data", "label"]), batch, seed=0, **options)


def test_rows_come_in_order_over_all_files_round_and_round(source):
    it = loader(source)
    assert len(it) == 7 and it.top_shapes == [(5, 2), (5,)]
    (data, label), (_, more) = it.next(), it.next()
    assert [*label, *more] == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]
    assert data.dtype == label.dtype == np.float32 and data[4].tolist() == [4, -4]


def test_shuffling_orders_files_and_the_rows_within(source):
    it = loader(source, batch=7, shuffle=True)
    passes = [it.next()[1].astype(int).tolist() for _ in range(8)]
    assert all(sorted(labels) == list(range(7)) for labels in passes)
    assert len({tuple(labels) for labels in passes}) > 4
    first = {max(labels[:3]) < 3 or min(labels[:4]) >= 3 for labels in passes}
    assert first == {True}, "rows of one file stay together"
    assert {labels[0] < 3 for labels in passes} == {True, False}, "either file comes first"


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_goes_on_at_a_position(source, shuffle):
    whole, later = (loader(source, batch=4, shuffle=shuffle) for _ in range(2))
    batches = [whole.next() for _ in range(6)]
    later.seek(20)
    assert np.array_equal(later.next()[0], batches[5][0])


def test_files_that_do_not_fit(source):
    with pytest.raises(ValueError, match=r"a\.h5 has no data set 'mean', only data, label"):
        HDF5Files(source, ["data", "mean"])
    with h5py.File(source.parent / "b.h5", "w") as file:
        file["data"] = np.zeros((4, 3))
        file["label"] = np.zeros(4)
    with pytest.raises(ValueError, match=r"b\.h5 holds .* which differs from .*a\.h5"):
        HDF5Files(source, ["data", "label"])
    with h5py.File(source.parent / "b.h5", "w") as file:
        file["data"] = np.zeros((4, 2))
        file["label"] = np.zeros(3)
    with pytest.raises(ValueError, match="need as many rows each"):
        HDF5Files(source, ["data", "label"])


def test_files_that_are_not_there(source, tmp_path):
    with pytest.raises(OSError, match="there is no list of HDF5 files"):
        HDF5Files(tmp_path / "no.txt", ["data"])
    (tmp_path / "b.h5").write_bytes(b"text")
    with pytest.raises(OSError, match=r"b\.h5 cannot be read as HDF5"):
        HDF5Files(source, ["data"])
    (tmp_path / "b.h5").unlink()
    with pytest.raises(OSError, match=r"list\.txt names .*b\.h5, which does not exist"):
        HDF5Files(source, ["data"])


def test_a_writer_appends_and_what_it_wrote_is_read(tmp_path):
    writer = HDF5Writer(tmp_path / "out.h5")
    for start in (0, 2):
        writer.append(
            data=np.arange(start, start + 2, dtype=np.float32)[:, None], label=np.ones(2, np.float32)
        )
    writer.close()
    (tmp_path / "list.txt").write_text(f"{tmp_path}/out.h5")
    data, label = loader(tmp_path / "list.txt", batch=4).next()
    assert data.tolist() == [[0], [1], [2], [3]] and label.tolist() == [1, 1, 1, 1]
    with pytest.raises(OSError, match="cannot write"):
        HDF5Writer(tmp_path / "no" / "out.h5")
