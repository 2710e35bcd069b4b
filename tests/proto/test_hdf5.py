"""Caffe's HDF5 files: as the real Caffe writes them (tests/goldens/hdf5), and what is none."""

import struct
import time

import numpy as np
import pytest

from crnn.proto import hdf5, pb
from crnn.proto.blobs import from_array, to_array, write_binary
from crnn.testing import golden

h5py = pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")

FOLDERS = ["adam", "shared"]


def outline(path):
    """Everything in a file but its numbers: name -> group, or shape, type and size of the type."""
    found = {}

    def note(name, item):
        is_group = isinstance(item, h5py.Group)
        found[name] = "group" if is_group else (item.shape, item.dtype, item.id.get_type().get_size())

    with h5py.File(path) as file:
        file.visititems(note)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_reads_and_rewrites_caffes_weights(folder, tmp_path):
    path = golden(f"hdf5/{folder}/snap_iter_5.caffemodel.h5")
    read = hdf5.read_weights(path)
    wanted = np.load(golden(f"hdf5/{folder}/weights.npz"))
    for layer, blobs in read.items():
        for index, blob in blobs.items():
            assert np.array_equal(blob, wanted[f"{layer}/{index}"])
    hdf5.write_weights(tmp_path / "ours.h5", read)
    assert outline(tmp_path / "ours.h5") == outline(path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_reads_and_rewrites_caffes_state(folder, tmp_path):
    path = golden(f"hdf5/{folder}/snap_iter_5.solverstate.h5")
    state = hdf5.read_state(path)
    assert (state.iter, state.learned_net) == (5, "snap_iter_5.caffemodel.h5")
    assert (len(state.history), state.current_step) == {"adam": (8, 0), "shared": (4, 1)}[folder]
    (tmp_path / "ours.h5").write_bytes(hdf5.state_bytes(state))
    assert outline(tmp_path / "ours.h5") == outline(path)
    assert hdf5.read_state(tmp_path / "ours.h5") == state


def test_the_owner_alone_holds_a_shared_blob():
    read = hdf5.read_weights(golden("hdf5/shared/snap_iter_5.caffemodel.h5"))
    assert set(read["fc"]) == {0, 1} and read["twin"] == {}


def test_a_string_ends_in_the_zero_that_caffe_reads_up_to(tmp_path):
    (tmp_path / "s.h5").write_bytes(hdf5.state_bytes(pb.SolverState(iter=1, learned_net="näh")))
    with h5py.File(tmp_path / "s.h5") as file:
        kind = file["learned_net"].id.get_type()
    assert (kind.get_size(), kind.get_strpad()) == (len("näh".encode()) + 1, h5py.h5t.STR_NULLTERM)
    assert hdf5.read_state(tmp_path / "s.h5").learned_net == "näh"


def test_names_with_slashes_and_doubles(tmp_path):
    blobs = {"a/1x1": {0: np.arange(3.0)}, "a/3x3": {0: np.float32([1, 2])}, "empty": {}}
    hdf5.write_weights(tmp_path / "w.h5", blobs, diff={"a/1x1": {0: np.zeros(3)}})
    read = hdf5.read_weights(tmp_path / "w.h5")
    assert read.keys() == blobs.keys()
    assert read["a/1x1"][0].dtype == np.float64 and read["a/3x3"][0].dtype == np.float32
    assert "diff/a/1x1/0" in outline(tmp_path / "w.h5")


def test_one_kind_given_for_the_other(tmp_path):
    weights, state = (golden(f"hdf5/adam/snap_iter_5.{kind}.h5") for kind in ("caffemodel", "solverstate"))
    with pytest.raises(ValueError, match=r"solverstate\.h5: this is a solver state, not weights"):
        hdf5.read_weights(state)
    with pytest.raises(ValueError, match=r"caffemodel\.h5: this is weights, not a solver state"):
        hdf5.read_state(weights)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["label"] = np.arange(3)
    with pytest.raises(ValueError, match="this is an HDF5 file of label, not weights"):
        hdf5.read_weights(tmp_path / "x.h5")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_file_cut_off_is_no_file(tmp_path, share):
    data = golden("hdf5/adam/snap_iter_5.caffemodel.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: int(share * len(data))])
    with pytest.raises(OSError, match=r"cut\.h5 cannot be read as HDF5 .*; copy it again"):
        hdf5.read_weights(tmp_path / "cut.h5")


def test_a_blob_that_is_no_array_of_numbers(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data/fc/weight"] = np.arange(3)
    with pytest.raises(ValueError, match=r"x\.h5: 'weight' among the blobs is no numbered data set"):
        hdf5.read_weights(tmp_path / "x.h5")


def test_told_by_name_or_by_content(tmp_path):
    content = golden("hdf5/adam/snap_iter_5.caffemodel.h5").read_bytes()
    (tmp_path / "net.caffemodel").write_bytes(content)
    write_binary(tmp_path / "b.caffemodel", pb.NetParameter(name="n"))
    assert hdf5.is_hdf5("nowhere.h5") and hdf5.is_hdf5(tmp_path / "net.caffemodel")
    assert not hdf5.is_hdf5(tmp_path / "b.caffemodel")


def test_equal_states_are_equal_files():
    """HDF5 likes to note when a data set was made."""
    before = int(time.time())
    data = hdf5.state_bytes(pb.SolverState(iter=1, learned_net="n", history=[from_array(np.ones(2))]))
    assert not any(struct.pack("<I", second) in data for second in range(before, int(time.time()) + 1))


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "w.h5"
    hdf5.write_weights(path, {"fc": {0: np.ones(2)}})
    with pytest.raises(TypeError):
        hdf5.write_weights(path, {"fc": {0: object()}})
    assert hdf5.read_weights(path)["fc"][0].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["w.h5"]


def test_a_history_with_a_gap(tmp_path):
    (tmp_path / "s.h5").write_bytes(
        hdf5.state_bytes(pb.SolverState(iter=1, history=[from_array(np.ones(2))] * 2))
    )
    assert to_array(hdf5.read_state(tmp_path / "s.h5").history[1]).tolist() == [1, 1]
    with h5py.File(tmp_path / "s.h5", "a") as file:
        file.move("history/1", "history/2")
    with pytest.raises(ValueError, match=r"the history has blobs \[0, 2\], not 0 to 1"):
        hdf5.read_state(tmp_path / "s.h5")


def test_a_blob_that_claims_more_than_its_file_can_hold(tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("data").create_group("fc").create_dataset(
            "0", (1 << 20, 1 << 20), "f4", chunks=True
        )
    with pytest.raises(
        ValueError, match=r"w\.h5: blob 0 claims 4,398,046,511,104 bytes, more than the file can"
    ):
        hdf5.read_weights(tmp_path / "w.h5")
