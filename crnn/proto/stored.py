"""The layers of a .caffemodel, their values left in the file until they are asked for.

Memory, for B bytes of values in one blob: reading takes B. A message would take up to 4 B where an old Caffe
wrote every value with a tag of its own (V0, V1).
"""

import math
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

import numpy as np
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from crnn.proto import messages as pb
from crnn.proto import sniff
from crnn.proto.blobs import check_kind, head, parsed, shape_of

_CHUNK = 1 << 20  # values read at once
_KINDS = {2: pb.V1LayerParameter, 100: pb.LayerParameter}  # `layers` and `layer` of a NetParameter
_BLOB = pb.BlobProto.DESCRIPTOR
_HOLDERS = (_BLOB, pb.V0LayerParameter.DESCRIPTOR)  # a layer's blobs are in it, or in the V0 layer within
_DTYPES = {5: "<f4", 6: "<f4", 8: "<f8", 9: "<f8"}  # data, diff, double_data, double_diff
_WIRES = {5: 5, 6: 5, 8: 1, 9: 1}  # wire type of a value with its own tag


class Span(NamedTuple):
    """`count` values from byte `start` on; `tagged`: a byte before each."""

    start: int
    count: int
    tagged: bool


@dataclass
class StoredBlob:
    """A BlobProto in a file.

    head: the message without its values.    spans: where these are, by their field's number.
    """

    path: str
    head: Message
    spans: dict[int, list[Span]]

    def read(self) -> np.ndarray:
        """Its data, as `to_array` gives those of a message; raises as that does."""
        number = 8 if self.spans.get(8) else 5
        spans, shape = self.spans.get(number, []), shape_of(self.head)
        count = sum(span.count for span in spans)
        if min(shape, default=1) < 0 or count != math.prod(shape):
            raise ValueError(f"a blob of shape {shape} holds {count} values in data")
        values, at = np.empty(count, _DTYPES[number]), 0
        with open(self.path, "rb") as file:
            for span in spans:
                for first in range(0, span.count, _CHUNK):
                    part = _values(file, span, first, min(_CHUNK, span.count - first), _DTYPES[number])
                    values[at : at + len(part)] = part
                    at += len(part)
        return values.reshape(shape)


def read_layers(path: str | os.PathLike) -> Iterator[tuple[str, list[StoredBlob]]]:
    """(name, blobs) of each layer of a .caffemodel, whether V0, V1 or of today.

    Raises OSError, or ValueError saying what the file is instead or that it is damaged.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        check_kind(data, path, pb.NetParameter)
        for number, wire, start, end in sniff.fields(data):
            if number in _KINDS and wire == 2:
                walk = _Walk(data, file)
                rest = walk.without_values(_KINDS[number].DESCRIPTOR, start, end) if end <= size else None
                if rest is None:
                    raise ValueError(f"{path}: damaged, no longer a binary net (.caffemodel); copy it again")
                layer = parsed(_KINDS[number], rest, path, pb.NetParameter)
                layer = layer.layer if number == 2 and layer.HasField("layer") else layer  # V0 is within V1
                pairs = zip(layer.blobs, walk.found, strict=True)
                yield layer.name, [StoredBlob(path, head, spans) for head, spans in pairs]


class _Walk:
    """Through a layer's bytes, past its values: what is read through the map would stay in memory."""

    def __init__(self, data: sniff.Bytes, file: BinaryIO):
        self.data, self.file = data, file
        self.found: list[dict[int, list[Span]]] = []  # of each blob

    def without_values(self, kind: Descriptor, at: int, end: int) -> bytes | None:
        """The message from `at` to `end` without the values of its blobs; None where it is damaged."""
        spans, parts = {}, []
        if kind is _BLOB:
            self.found.append(spans)
        while at < end:
            number, wire, start, after = next(sniff.fields(self.data, at))
            if after > end or number == 0:
                return None
            inner = kind.fields_by_number[number].message_type if number in kind.fields_by_number else None
            if kind is _BLOB and number in _DTYPES and wire in (2, _WIRES[number]):
                span = self._span(number, wire, at, start, after, end)
                if span is None:
                    return None
                spans.setdefault(number, []).append(span)
                after = max(after, _end(span, _DTYPES[number]))
            elif wire == 2 and inner in _HOLDERS:
                part = self.without_values(inner, start, after)
                if part is None:
                    return None
                parts += [head(number, len(part)), part]
            else:
                parts.append(self.data[at:after])
            at = after
        return b"".join(parts)

    def _span(self, number: int, wire: int, at: int, start: int, after: int, end: int) -> Span | None:
        """The values that begin at the field at `at`: a packed list, or tagged ones as far as they go."""
        width = np.dtype(_DTYPES[number]).itemsize
        if wire == 2:
            return None if (after - start) % width else Span(start, (after - start) // width, False)
        most, count, tag = (end - at) // (1 + width), 0, number << 3 | wire
        while count < most:
            part = _records(self.file, at, count, min(_CHUNK, most - count), _DTYPES[number])
            others = np.flatnonzero(part["tag"] != tag)
            count += int(others[0]) if len(others) else len(part)
            if len(others):
                break
        return Span(at + 1, count, True)


def _end(span: Span, dtype: str) -> int:
    width = np.dtype(dtype).itemsize
    return span.start + span.count * (width + 1) - 1 if span.tagged else span.start + span.count * width


def _records(file: BinaryIO, at: int, first: int, count: int, dtype: str) -> np.ndarray:
    """`count` tagged values from number `first` on of a run whose first tag is at `at`."""
    record = np.dtype([("tag", "u1"), ("value", dtype)])
    file.seek(at + first * record.itemsize)
    return np.frombuffer(file.read(count * record.itemsize), record)


def _values(file: BinaryIO, span: Span, first: int, count: int, dtype: str) -> np.ndarray:
    if span.tagged:
        return _records(file, span.start - 1, first, count, dtype)["value"]
    width = np.dtype(dtype).itemsize
    file.seek(span.start + first * width)
    return np.frombuffer(file.read(count * width), dtype)
