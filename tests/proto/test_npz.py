"""Arrays of .npz files; of others one sentence that names the file, and none of their code is run."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from crnn.proto.npz import read_npz


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_under_their_names(path, save):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b/c": np.array("text"), "d": np.zeros((0, 2), bool)}
    arrays["e"] = np.asfortranarray(arrays["a"])
    save(path, **arrays)
    got = read_npz(path)
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array, strict=True)


def member(header: str) -> bytes:
    """A .npy of this header and no values."""
    return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header.encode() + b"\n"


class Payload:
    def __reduce__(self):
        return pytest.fail, ("its code was run",)


def objects() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([Payload()], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"no array",
        objects(),
        member("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }"),
        member("{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551616,), }"),
        member("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"),
        member("{'descr': ("),
    ],
    ids=["no array", "objects", "4 TB", "2^64 values", "no values", "half a header"],
)
def test_a_member_that_is_no_plain_array_is_refused(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", content)
    with pytest.raises(ValueError, match=r"x\.npz is no whole \.npz file of plain arrays: .*\w"):
        read_npz(path)


def test_another_file_is_refused(path):
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ValueError, match=r"x\.npz is no whole \.npz file of plain arrays: File is not a zip"):
        read_npz(path)


def test_damaged_values_are_refused(path):
    np.savez_compressed(path, a=np.arange(500) % 7)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.npz is no whole \.npz file of plain arrays: .*\w"):
        read_npz(path)
