"""Layers read from a .caffemodel with their values left there: equal to what protobuf reads."""

import contextlib

import numpy as np
import pytest

from crnn.proto import pb, stored
from crnn.proto.blobs import head, to_array
from crnn.proto.stored import read_layers

SHAPE = b"\x08\x02\x10\x03\x18\x01\x20\x01"  # num 2, channels 3, height 1, width 1
VALUES = np.arange(6, dtype=np.float32) - 2.5


def packed(number: int, values) -> bytes:
    return head(number, values.nbytes) + values.tobytes()


def tagged(number: int, values) -> bytes:
    """Each value with its own tag, as protobuf 2 wrote them for V0 and V1 nets."""
    tag = bytes([number << 3 | (5 if values.itemsize == 4 else 1)])
    return b"".join(tag + value.tobytes() for value in values)


BLOBS = {
    "packed": SHAPE + packed(5, VALUES),
    "tagged": SHAPE + tagged(5, VALUES),
    "tagged, shape last": tagged(5, VALUES) + SHAPE,
    "in pieces": tagged(5, VALUES[:1]) + SHAPE + packed(5, VALUES[1:3]) + head(5, 0) + tagged(5, VALUES[3:]),
    "with diffs": SHAPE + tagged(5, VALUES) + tagged(6, VALUES + 1),
    "diffs first": tagged(6, VALUES + 1) + SHAPE + packed(5, VALUES),
    "doubles": SHAPE + packed(8, VALUES.astype("<f8")) + packed(9, VALUES.astype("<f8")),
    "tagged doubles": SHAPE + tagged(8, VALUES.astype("<f8")),
    "a fork's field": SHAPE + packed(5, VALUES) + head(77, 3) + b"abc",
    "today's shape": head(7, 4) + b"\x0a\x02\x02\x03" + packed(5, VALUES),
}


def layer(form: str, *blobs: bytes) -> bytes:
    """A NetParameter with one layer "fc" of V0, V1 or today that holds the blobs."""
    if form == "V0":
        inner = head(1, 2) + b"fc" + b"".join(head(50, len(blob)) + blob for blob in blobs)
        inner = head(1, len(inner)) + inner
    else:
        name, number = (4, 6) if form == "V1" else (1, 7)
        inner = head(name, 2) + b"fc" + b"".join(head(number, len(blob)) + blob for blob in blobs)
    return head(100 if form == "today" else 2, len(inner)) + inner


@pytest.mark.parametrize("chunk", [1 << 20, 4])
@pytest.mark.parametrize("form", ["V0", "V1", "today"])
@pytest.mark.parametrize("kind", BLOBS)
def test_blobs_are_those_that_protobuf_reads(tmp_path, monkeypatch, kind, form, chunk):
    monkeypatch.setattr(stored, "_CHUNK", chunk)
    (tmp_path / "net").write_bytes(layer(form, BLOBS[kind], BLOBS["packed"]) + layer(form))
    (name, blobs), (_, none) = read_layers(tmp_path / "net")
    assert (name, len(blobs), none) == ("fc", 2, [])
    want = pb.BlobProto.FromString(BLOBS[kind])
    got = blobs[0].read()
    assert got.dtype == to_array(want).dtype and np.array_equal(got, to_array(want))
    assert np.array_equal(blobs[1].read(), VALUES.reshape(2, 3, 1, 1))
    for field in ("data", "diff", "double_data", "double_diff"):
        want.ClearField(field)
    assert blobs[0].head == want


@pytest.mark.parametrize("values", [VALUES[:5], np.append(VALUES, 1), VALUES[:0]], ids=len)
def test_a_number_of_values_that_the_shape_does_not_have(tmp_path, values):
    (tmp_path / "net").write_bytes(layer("V1", SHAPE + tagged(5, values.astype("<f4"))))
    ((_, (blob,)),) = read_layers(tmp_path / "net")
    with pytest.raises(ValueError, match=rf"blob of shape \(2, 3, 1, 1\) holds {len(values)} values in data"):
        blob.read()


@pytest.mark.parametrize("form", ["V0", "V1", "today"])
@pytest.mark.parametrize("kind", ["packed", "tagged", "doubles"])
def test_a_file_cut_off_anywhere_is_an_error(tmp_path, kind, form):
    data = layer(form, BLOBS[kind])
    for size in range(1, len(data)):
        (tmp_path / "net").write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"copy it again|this is"):
            list(read_layers(tmp_path / "net"))


@pytest.mark.parametrize(
    "blob",
    [
        SHAPE + head(5, 100) + VALUES.tobytes(),  # longer than the blob
        SHAPE + head(5, 5) + b"12345",  # no whole number of values
        SHAPE + tagged(5, VALUES)[:-1],
        SHAPE + b"\x00\x00",  # no field has number 0
        SHAPE + b"\x0f",  # nor wire type 7
    ],
)
def test_a_damaged_blob_is_an_error(tmp_path, blob):
    (tmp_path / "net").write_bytes(layer("V1", blob))
    with pytest.raises(ValueError, match=r"net: damaged, no longer a binary net \(\.caffemodel\)"):
        list(read_layers(tmp_path / "net"))


def test_a_flipped_bit_gives_users_errors_only(tmp_path):
    """Tags and lengths are checked; of a flip within a value only a checksum beside the file tells."""
    data = layer("V1", BLOBS["tagged"])
    found = []
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "net").write_bytes(flipped)
        with contextlib.suppress(ValueError):
            found += [blob.read().shape for _, blobs in read_layers(tmp_path / "net") for blob in blobs]
    assert len(found) >= 32 * len(VALUES) and found.count((2, 3, 1, 1)) >= 32 * len(VALUES)
