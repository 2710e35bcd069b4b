"""Caffe's binary files and the arrays in them: .caffemodel, .solverstate, .binaryproto.

Memory, for B bytes of values: read_binary peaks at 2 B (the bytes and the message) and keeps B; at 4 B where
each value has a tag of its own (stored.py does without); to_array adds B; from_array peaks at 2 B beside its
array and keeps B; writing adds 2 B. A message holds at most 2 GB less one byte, as in Caffe.
"""

import contextlib
import math
import os
import shutil
from collections.abc import Iterator

import numpy as np
from google.protobuf.message import DecodeError, Message

from crnn.proto import messages as pb
from crnn.proto import sniff

MAX_BYTES = (1 << 31) - 1

_LEGACY = ("num", "channels", "height", "width")


def shape_of(blob: Message) -> tuple[int, ...]:
    """The shape of a BlobProto: its four legacy extents where any is present, else `shape`."""
    if any(blob.HasField(name) for name in _LEGACY):
        return tuple(getattr(blob, name) for name in _LEGACY)
    return tuple(blob.shape.dim)


def shape_equals(blob: Message, shape: tuple[int, ...]) -> bool:
    """Whether blob's values can fill an array of this shape.

    Legacy extents are compared from the right and missing axes count as 1, so (N, K) equals (1, 1, N, K).
    Caffe: Blob::ShapeEquals, src/caffe/blob.cpp.
    """
    shape = tuple(shape)
    if any(blob.HasField(name) for name in _LEGACY):
        return len(shape) <= 4 and (1,) * (4 - len(shape)) + shape == shape_of(blob)
    return shape == shape_of(blob)


def to_array(blob: Message, which: str = "data") -> np.ndarray:
    """The values of a BlobProto, `which` is data or diff: float32, or float64 where it holds doubles.

    Raises ValueError where the number of values is not the shape's product.
    """
    values, dtype = getattr(blob, f"double_{which}"), np.float64
    if not values:
        values, dtype = getattr(blob, which), np.float32
    shape = shape_of(blob)
    if min(shape, default=1) < 0 or len(values) != math.prod(shape):
        raise ValueError(f"a blob of shape {shape} holds {len(values)} values in {which}")
    return np.array(values, dtype).reshape(shape)


def from_array(array: np.ndarray, diff: np.ndarray | None = None) -> Message:
    """A BlobProto of array, and of diff if given: doubles for float64, else floats."""
    array = np.asarray(array)
    blob = pb.BlobProto(shape=pb.BlobShape(dim=array.shape))
    put_values(blob, "data", array)
    if diff is not None:
        put_values(blob, "diff", np.asarray(diff))
    return blob


def read_mean(path: str | os.PathLike) -> np.ndarray:
    """The mean image of a .binaryproto: float32 [C, H, W]."""
    blob = read_binary(path, pb.BlobProto)
    try:
        mean = to_array(blob).astype(np.float32, copy=False)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if mean.ndim == 4 and len(mean) == 1:
        mean = mean[0]
    if mean.ndim != 3:
        raise ValueError(f"{path}: a mean image has channels, height and width; this has shape {mean.shape}")
    return mean


def write_mean(path: str | os.PathLike, mean: np.ndarray) -> None:
    """Writes mean [C, H, W] as Caffe's compute_image_mean does: a BlobProto with legacy extents, num 1."""
    channels, height, width = mean.shape
    blob = pb.BlobProto(num=1, channels=channels, height=height, width=width)
    put_values(blob, "data", np.asarray(mean, np.float32))
    write_binary(path, blob)


def read_binary(path: str | os.PathLike, message_type: type[Message]) -> Message:
    """The message of a binary file. Raises OSError, or ValueError saying what the file is instead."""
    path = os.fspath(path)
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    check_kind(data, path, message_type)
    return parsed(message_type, data, path, message_type)


def check_kind(data: sniff.Bytes, path: str, message_type: type[Message]) -> None:
    """Raises ValueError saying what the data of file `path` is if it cannot be a message_type."""
    wanted = sniff.BINARY.get(message_type.DESCRIPTOR, f"a binary {message_type.DESCRIPTOR.name}")
    if not data:
        raise ValueError(f"{path}: the file is empty, not {wanted}")
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path}: larger than 2 GB, the most that {wanted} can hold")
    outline = sniff.outline(data)
    if outline is None or not outline.fits(message_type.DESCRIPTOR):
        raise ValueError(f"{path}: this is {sniff.kind(data[: 1 << 20]) or 'text'}, not {wanted}")
    if outline.size > len(data):
        raise ValueError(f"{path}: cut off after {len(data)} bytes of at least {outline.size}; copy it again")


def parsed(kind: type[Message], data: bytes, path: str, message_type: type[Message]) -> Message:
    """The message of data, a part of file `path`, which is a message_type. Raises ValueError if damaged."""
    try:
        return kind.FromString(data)
    except DecodeError:
        wanted = sniff.BINARY.get(message_type.DESCRIPTOR, f"a binary {message_type.DESCRIPTOR.name}")
        raise ValueError(f"{path}: damaged, no longer {wanted}; copy it again") from None


def write_binary(path: str | os.PathLike, message: Message) -> None:
    """Writes message so that path holds either all of it or what it held before."""
    write_bytes(path, serialized(path, message))


def serialized(path: str | os.PathLike, message: Message) -> bytes:
    """What write_binary puts in path. Raises ValueError where that is more than a message can hold."""
    if message.ByteSize() > MAX_BYTES:
        raise ValueError(f"{path}: {message.DESCRIPTOR.name} would take more than 2 GB, protobuf's limit")
    return message.SerializeToString()


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes data so that path holds either all of it or what it held before."""
    with replacing(path) as part, open(part, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Gives a name beside path to write to; then has the disk confirm it and renames it to path.

    Whatever goes wrong, nothing is left beside path; an OSError names it.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    if not os.path.isdir(folder or "."):
        raise FileNotFoundError(f"{path}: there is no folder {folder}; create it first")
    part = os.path.join(folder, f".{name}.{os.getpid()}.part")
    with naming(path):
        try:
            yield part
            _sync(part, os.O_RDWR)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.remove(part)
            raise
        _sync(folder or ".", os.O_RDONLY)  # the rename itself


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Around what writes path: an OSError says so, and how much room there is."""
    try:
        yield
    except OSError as error:
        free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
        why = error.strerror or error
        raise OSError(f"cannot write {os.fspath(path)}: {why} ({free / 1e6:,.0f} MB free)") from error


def _sync(path: str, how: int) -> None:
    handle = os.open(path, how)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_values(blob: Message, which: str, array: np.ndarray) -> None:
    """Appends array to a float or double field as packed bytes: twenty times faster than `extend`."""
    wide = array.dtype == np.float64
    field = blob.DESCRIPTOR.fields_by_name[f"double_{which}" if wide else which]
    values = np.ascontiguousarray(array, "<f8" if wide else "<f4").reshape(-1)
    if values.nbytes > MAX_BYTES:
        raise ValueError(f"an array of shape {array.shape} is more than the 2 GB that a BlobProto holds")
    if values.size:
        blob.MergeFromString(b"".join((head(field.number, values.nbytes), memoryview(values).cast("B"))))


def head(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of field `number` in wire format."""
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
