"""What a file is, told from its first bytes and, for Caffe's binary files, from their outermost fields."""

import re
from collections.abc import Iterator
from itertools import islice
from mmap import mmap
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from crnn.proto import messages as pb
from crnn.proto.parser import is_repeated

_MAGIC = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"\x1f\x8b": "a gzip archive (unpack it)",
    b"PK\x03\x04": "a zip archive (unpack it)",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\xff\xfe": "UTF-16 text (save it as UTF-8)",
    b"\xfe\xff": "UTF-16 text (save it as UTF-8)",
    b"version https://git-lfs": "a Git LFS pointer (fetch the file itself with git lfs pull)",
}
_LMDB = b"\xde\xc0\xef\xbe"  # at byte 16 of data.mdb
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|head|\?xml)", re.IGNORECASE)
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_MANY = 10_000  # outermost fields looked at
_WIRES = (0, 1, 2, 5)

Bytes = bytes | mmap  # what an offset gives a number of

#: Caffe's binary files: their messages and what users call them.
BINARY = {
    pb.NetParameter.DESCRIPTOR: "a binary net (.caffemodel)",
    pb.SolverState.DESCRIPTOR: "a solver state (.solverstate)",
    pb.BlobProto.DESCRIPTOR: "a binary blob (.binaryproto)",
}


class Outline(NamedTuple):
    """The outermost fields of a message in wire format.

    fields: their (number, wire type).   size: bytes that they need; more than there are if cut off.
    """

    fields: frozenset[tuple[int, int]]
    size: int

    def fits(self, message: Descriptor, strict: bool = False) -> bool:
        """Whether this can be message: no field of another wire type; strict: and none that it lacks."""
        known = [field for field in self.fields if field[0] in message.fields_by_number]
        if strict and len(known) < len(self.fields):
            return False
        return bool(known) and all(wire in _wire_types(message.fields_by_number[n]) for n, wire in known)


def outline(data: Bytes) -> Outline | None:
    """The outermost fields of data (the first 10,000 of them); None where it is no message in wire format.

    Source: https://protobuf.dev/programming-guides/encoding
    """
    found = list(islice(fields(data), _MANY))
    if any(number == 0 or wire not in _WIRES for number, wire, _, _ in found):
        return None
    size = found[-1][3] if found else 0
    return Outline(frozenset((number, wire) for number, wire, _, _ in found), size)


def fields(data: Bytes, at: int = 0) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start, end) of each field from `at` on; ends with one of a wire type that is none.

    The last may end beyond the data: then it is cut off.
    """
    while at < len(data):
        tag, start = _varint(data, at)
        if tag & 7 == 0:
            _, at = _varint(data, start)
        elif tag & 7 == 2:
            length, start = _varint(data, start)
            at = start + length
        else:
            at = start + {1: 8, 5: 4}.get(tag & 7, 0)
        yield tag >> 3, tag & 7, start, at
        if tag & 7 not in _WIRES:
            return


def kind(data: bytes) -> str | None:
    """What the beginning of a file shows it to be, e.g. "an HDF5 file"; None for text."""
    for magic, name in _MAGIC.items():
        if data.startswith(magic):
            return name
    if data[16:20] == _LMDB:
        return "the data file of an LMDB"
    if _MARKUP.match(data):
        return "an HTML page (download the file itself; on GitHub, the raw link)"
    if not _NOT_TEXT.search(data[: 1 << 16]):
        return None
    found = outline(data)
    names = [name for message, name in BINARY.items() if found and found.fits(message, strict=True)]
    return names[0] if names else "a binary file"


def _varint(data: Bytes, at: int) -> tuple[int, int]:
    """The number at `at` and the offset behind it; one that is cut off ends beyond the data."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return value, len(data) + 1
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            break
    return value, at


def _wire_types(field: FieldDescriptor) -> tuple[int, ...]:
    """The wire types that field may have; 2 also for a packed list."""
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_MESSAGE):
        return (2,)
    plain = {FieldDescriptor.TYPE_DOUBLE: 1, FieldDescriptor.TYPE_FLOAT: 5}.get(field.type, 0)
    return (plain, 2) if is_repeated(field) else (plain,)
