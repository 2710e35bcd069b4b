"""From the text of a scalar to the value of a field."""

import difflib
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor

from crnn.proto.lexer import integer, real, shown

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
}
_REALS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_TRUE, _FALSE = ("true", "True", "t", "1"), ("false", "False", "f", "0")


class Literal(NamedTuple):
    """A scalar as written. kind: name, number or string.   data: of a string, without quotes and escapes."""

    kind: str
    text: str
    data: bytes | None = None

    def __str__(self):
        return shown(self.kind, self.text)


def convert(field: FieldDescriptor, literal: Literal) -> Any:
    """The value that literal gives field. Raises ValueError("wants ..., got ...")."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _string(field, literal)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return _enum(field, literal)
    if field.cpp_type in _INTEGERS:
        low, high = _INTEGERS[field.cpp_type]
        value, wanted = _signed(integer, literal), f"an integer from {low} to {high}"
        if value is not None and not low <= value <= high:
            value = None
    elif field.cpp_type in _REALS:
        value, wanted = _signed(real, literal), "a number"
    else:
        value, wanted = _bool(literal), "true or false"
    if value is None:
        raise ValueError(f"wants {wanted}, got {literal}")
    return value


def _signed(read, literal: Literal) -> int | float | None:
    """read(text) with literal's sign; None for a string."""
    if literal.data is not None:
        return None
    value = read(literal.text.removeprefix("-"))
    return -value if value is not None and literal.text.startswith("-") else value


def _bool(literal: Literal) -> bool | None:
    """The truth value; None for anything else. A string's text keeps its quotes, so it is never one."""
    return literal.text in _TRUE if literal.text in _TRUE + _FALSE else None


def _string(field: FieldDescriptor, literal: Literal) -> str | bytes:
    if literal.data is None:
        raise ValueError(f'wants a string: write "{literal.text}" in quotes')
    if field.type == FieldDescriptor.TYPE_BYTES:
        return literal.data
    try:
        return literal.data.decode()
    except UnicodeDecodeError:
        raise ValueError("holds bytes that are not UTF-8; save the file as UTF-8") from None


def _enum(field: FieldDescriptor, literal: Literal) -> int:
    values = field.enum_type.values_by_name
    if literal.kind == "name" and literal.text in values:
        return values[literal.text].number
    if literal.kind == "number" and _signed(integer, literal) in field.enum_type.values_by_number:
        return _signed(integer, literal)
    asked = literal.text if literal.data is None else literal.data.decode(errors="replace")
    close = difflib.get_close_matches(asked.upper(), values, 1)
    wanted = f"one of {', '.join(values)}" if len(values) <= 8 else f"a value of {field.enum_type.full_name}"
    cure = f"; did you mean {close[0]}{' (no quotes)' if literal.data is not None else ''}?" if close else ""
    raise ValueError(f"wants {wanted}, got {literal}{cure}")
