"""Variables of MATLAB's level 5 files: what ILSVRC's meta.mat and SBD's label maps need, and no more.

Numbers, text, cells and structures; sparse arrays, objects and functions read as None. Lengths are checked
against what is there, so a damaged or hostile file is a ValueError.
Source: MathWorks, "MAT-File Format", level 5.
"""

import struct
import zlib

import numpy as np

HEADER = 128  # bytes
MAX_BYTES = 256 << 20  # that a compressed variable may expand to
MAX_DEPTH = 16
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_ARRAYS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


def read_variable(file: bytes, name: str):
    """The variable `name`: an array, a string, a list of cells, or a list of dicts for a structure array.

    Raises ValueError where the file has no such variable or is not of level 5.
    """
    order = {b"IM": "<", b"MI": ">"}.get(file[126:HEADER])
    if order is None:
        raise ValueError("not a MAT-file of level 5 (save it with -v7 or older)")
    try:
        for kind, data in _Elements(file[HEADER:], order):
            if kind == _COMPRESSED:
                ((kind, data),) = _Elements(_inflate(data), order)
            if kind == _MATRIX and _name(data, order) == name:
                return _matrix(data, order)
    except (struct.error, zlib.error, UnicodeDecodeError, LookupError, StopIteration, ValueError) as error:
        raise ValueError(f"a damaged MAT-file ({error})") from None
    raise ValueError(f"a MAT-file without the variable {name}")


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    out = inflater.decompress(data, MAX_BYTES)
    if inflater.unconsumed_tail:
        raise ValueError(f"a variable of more than {MAX_BYTES >> 20} MB")
    return out


class _Elements:
    """The data elements of a piece of a file: (type, bytes) of each."""

    def __init__(self, data: bytes, order: str):
        self.data, self.order, self.at = data, order, 0

    def __iter__(self):
        return self

    def __next__(self) -> tuple[int, bytes]:
        if self.at >= len(self.data):
            raise StopIteration
        kind, size = struct.unpack_from(f"{self.order}II", self.data, self.at)
        start = self.at + 8
        if kind >> 16:  # a small element: size and type share the first word, up to 4 bytes follow
            kind, size, start = kind & 0xFFFF, kind >> 16, self.at + 4
            self.at += 8
        else:
            self.at = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(self.data):
            raise ValueError(f"an element of {size} bytes where {len(self.data) - start} are left")
        return kind, self.data[start : start + size]


def _name(data: bytes, order: str) -> str:
    elements = _Elements(data, order)
    _flags, _dims, (_, name) = next(elements), next(elements), next(elements)
    return name.decode("latin-1")


def _matrix(data: bytes, order: str, depth: int = 0):
    if not data:
        return np.zeros((0, 0))
    if depth > MAX_DEPTH:
        raise ValueError(f"values nested deeper than {MAX_DEPTH}")
    elements = _Elements(data, order)
    (_, flags), (_, dims), _name = next(elements), next(elements), next(elements)
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    shape = np.frombuffer(dims, f"{order}i4").tolist()
    if kind == _CELL:
        return [_matrix(value, order, depth + 1) for _, value in elements]
    if kind == _STRUCT:
        return _structs(elements, order, depth)
    if kind == _CHAR:
        stored, text = next(elements)
        return _text(stored, text, order)
    if kind not in _ARRAYS:
        return None
    stored, values = next(elements)
    array = np.frombuffer(values, f"{order}{_NUMBERS[stored]}").astype(_ARRAYS[kind])
    return array.reshape(shape, order="F")


def _structs(elements: _Elements, order: str, depth: int) -> list[dict]:
    (_, length), (_, names) = next(elements), next(elements)
    (width,) = struct.unpack_from(f"{order}i", length)
    if width < 1 or len(names) % width:
        raise ValueError(f"field names of {width} bytes in {len(names)}")
    fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
    values = [_matrix(value, order, depth + 1) for _, value in elements]
    if not fields or len(values) % len(fields):
        raise ValueError(f"a structure of {len(fields)} fields with {len(values)} values")
    return [
        dict(zip(fields, values[i : i + len(fields)], strict=True))
        for i in range(0, len(values), len(fields))
    ]


def _text(stored: int, data: bytes, order: str) -> str:
    coding = _TEXT[stored]
    if coding in ("utf-16", "utf-32"):
        coding += "-le" if order == "<" else "-be"
    return data.decode(coding)
