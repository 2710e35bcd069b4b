"""Arrays in Caffe's binary files, and files that stay whole."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crnn.proto import pb, sniff
from crnn.proto.blobs import (
    from_array,
    read_binary,
    read_mean,
    shape_equals,
    shape_of,
    to_array,
    write_binary,
    write_bytes,
    write_mean,
)
from crnn.proto.text import load
from crnn.proto.upgrade import upgrade_net
from crnn.testing import golden

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)


# Arrays


@given(arrays.arrays(st.sampled_from([np.float32, np.float64]), SHAPES))
def test_arrays_come_back(array):
    back = to_array(pb.BlobProto.FromString(from_array(array).SerializeToString()))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_an_array_of_no_values():
    assert to_array(from_array(np.ones((2, 0)))).shape == (2, 0)


def test_any_layout_and_type_is_stored_as_c_order_floats():
    array = np.arange(6).reshape(2, 3).T
    assert list(from_array(array).data) == [0, 3, 1, 4, 2, 5]


def test_diff_goes_beside_data():
    blob = from_array(np.float32([1, 2]), diff=np.float32([3, 4]))
    np.testing.assert_array_equal(to_array(blob, "diff"), [3, 4])
    np.testing.assert_array_equal(to_array(from_array(np.ones(1), diff=np.zeros(1)), "diff"), [0])


def test_legacy_extents_come_before_shape():
    blob = pb.BlobProto(num=1, channels=2, height=1, width=1, data=[1, 2], shape=pb.BlobShape(dim=[2]))
    assert shape_of(blob) == (1, 2, 1, 1)
    assert to_array(blob).shape == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (pb.BlobProto(shape=pb.BlobShape(dim=[2, 3]), data=[1]), r"shape \(2, 3\) holds 1 values in data"),
        (pb.BlobProto(shape=pb.BlobShape(dim=[-1, -1]), data=[1]), r"shape \(-1, -1\)"),
        (pb.BlobProto(data=[1, 2]), r"shape \(\) holds 2 values"),
    ],
)
def test_values_that_do_not_fill_the_shape(blob, says):
    with pytest.raises(ValueError, match=says):
        to_array(blob)


def test_a_missing_diff():
    with pytest.raises(ValueError, match="holds 0 values in diff"):
        to_array(from_array(np.float32([1])), "diff")


def legacy(num, channels, height, width):
    return pb.BlobProto(num=num, channels=channels, height=height, width=width)


@pytest.mark.parametrize(
    ("blob", "shape", "equal"),
    [
        (legacy(1, 1, 1, 5), (5,), True),
        (legacy(1, 1, 3, 5), (3, 5), True),
        (legacy(1, 1, 3, 5), (1, 3, 5), True),
        (legacy(2, 1, 3, 5), (3, 5), False),
        (legacy(1, 1, 3, 5), (5, 3), False),
        (legacy(1, 1, 1, 5), (1, 1, 1, 1, 5), False),
        (legacy(1, 1, 1, 1), (), True),
        (pb.BlobProto(shape=pb.BlobShape(dim=[3, 5])), (3, 5), True),
        (pb.BlobProto(shape=pb.BlobShape(dim=[1, 3, 5])), (3, 5), False),
        (pb.BlobProto(), (), True),
    ],
)
def test_shape_equality_is_caffes(blob, shape, equal):
    assert shape_equals(blob, shape) is equal


# Files of the real Caffe


@pytest.mark.parametrize(
    "path", sorted(golden("solvers").rglob("mid.*")), ids=lambda p: f"{p.parent.name}{p.suffix}"
)
def test_reads_and_rewrites_caffes_snapshots(path, tmp_path):
    message_type = {".caffemodel": pb.NetParameter, ".solverstate": pb.SolverState}[path.suffix]
    message = read_binary(path, message_type)
    blobs = (
        message.history
        if path.suffix == ".solverstate"
        else [b for layer in message.layer for b in layer.blobs]
    )
    assert all(np.isfinite(to_array(blob)).all() for blob in blobs)
    write_binary(tmp_path / path.name, message)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_blobs_of_a_snapshot_fit_their_net():
    net = read_binary(golden("tools/logged_iter_30.caffemodel"), pb.NetParameter)
    before = [layer.name for layer in net.layer]
    upgrade_net(net)
    stated = load(golden("tools/logged_net.prototxt"), pb.NetParameter).message
    assert [layer.name for layer in net.layer] == before
    assert {layer.name for layer in stated.layer} <= {
        *before,
        *(layer.name for layer in stated.layer if layer.include),
    }


def test_reads_and_rewrites_caffes_mean(tmp_path):
    mean = read_mean(golden("tools/mean.binaryproto"))
    assert mean.dtype == np.float32
    assert mean.ndim == 3
    write_mean(tmp_path / "mean.binaryproto", mean)
    assert (tmp_path / "mean.binaryproto").read_bytes() == golden("tools/mean.binaryproto").read_bytes()


def test_a_mean_may_have_a_shape_without_the_batch(tmp_path):
    write_binary(tmp_path / "m", from_array(np.ones((3, 2, 2))))
    assert read_mean(tmp_path / "m").shape == (3, 2, 2)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (4, 4)])
def test_what_is_no_mean_image(tmp_path, shape):
    write_binary(tmp_path / "m", from_array(np.ones(shape)))
    with pytest.raises(ValueError, match="m: a mean image has channels, height and width; this has shape"):
        read_mean(tmp_path / "m")


# Wrong files


def net_bytes():
    net = pb.NetParameter(name="net")
    net.layer.add(name="fc", type="InnerProduct").blobs.append(from_array(np.ones((20, 30))))
    return net.SerializeToString()


def binary_error(path, data, message_type=pb.NetParameter):
    path.write_bytes(data)
    with pytest.raises(ValueError) as error:
        read_binary(path, message_type)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the file is empty, not a binary net (.caffemodel)"),
        (
            b"<html><body>404",
            "this is an HTML page (download the file itself; on GitHub, the raw link), not a binary",
        ),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "this is an HDF5 file, not a binary net"),
        (b'name: "net"\nlayer {\n}\n', "this is text, not a binary net"),
        (b"\n\n# a net\nname: 'net'", "this is text, not a binary net"),
        (
            pb.SolverState(iter=5).SerializeToString(),
            "this is a solver state (.solverstate), not a binary net",
        ),
        (legacy(1, 3, 8, 8).SerializeToString(), "this is a binary blob (.binaryproto), not a binary net"),
        (b"\xff\x00" * 99, "this is a binary file, not a binary net"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, data, says):
    assert binary_error(tmp_path / "x", data).startswith(says)


def test_a_net_given_as_solver_state(tmp_path):
    said = binary_error(tmp_path / "x", net_bytes(), pb.SolverState)
    assert said == "this is a binary net (.caffemodel), not a solver state (.solverstate)"


def test_a_file_cut_off_anywhere_never_passes(tmp_path):
    data = net_bytes()
    for size in (6, 7, 20, 200, len(data) - 1):
        assert binary_error(tmp_path / "x", data[:size]).startswith(
            f"cut off after {size} bytes of at least "
        )


def test_a_damaged_file(tmp_path):
    data = bytearray(net_bytes())
    data[10] = 0xFF  # the length of the layer's name
    assert "copy it again" in binary_error(tmp_path / "x", bytes(data))


def test_fields_of_a_fork_do_not_make_a_net_unreadable(tmp_path):
    (tmp_path / "x").write_bytes(net_bytes() + b"\xa0\x06\x01")  # field 100, but a number
    assert "binary" in binary_error(tmp_path / "x", net_bytes() + b"\xa0\x06\x01")
    (tmp_path / "x").write_bytes(net_bytes() + b"\xc8\x13\x01")  # field 313, which Caffe does not have
    assert read_binary(tmp_path / "x", pb.NetParameter).name == "net"


@given(st.binary(max_size=60))
def test_any_bytes_have_a_kind(data):
    assert sniff.kind(data) is None or isinstance(sniff.kind(data), str)


# Writing


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, fails):
    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "net.caffemodel"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, fails, fail)
    with pytest.raises(
        OSError, match=r"cannot write .*net\.caffemodel: No space left on device \([\d,]+ MB free\)"
    ):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.caffemodel"]


def test_a_write_replaces_the_file_at_once(tmp_path, monkeypatch):
    path = tmp_path / "net.caffemodel"
    write_bytes(path, b"old")
    seen = []
    replace = os.replace

    def watched(part, target):
        seen.append((Path(part).read_bytes(), path.read_bytes()))
        replace(part, target)

    monkeypatch.setattr(os, "replace", watched)
    write_binary(path, pb.NetParameter(name="n"))
    assert seen == [(b"\x0a\x01n", b"old")]
    assert path.read_bytes() == b"\x0a\x01n"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OSError, match=r"there is no folder .*missing; create it first"):
        write_binary(tmp_path / "missing" / "net.caffemodel", pb.NetParameter())


def test_a_bare_file_name_is_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bytes("net.caffemodel", b"new")
    assert os.listdir() == ["net.caffemodel"]
