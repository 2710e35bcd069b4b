"""Tokens of protobuf's text format, with their offsets, and the numbers and strings they stand for."""

import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
      (?P<blank>  (?: [ \t\r\n\f\v] | \#[^\n]* )+ )
    | (?P<name>   [A-Za-z_] [A-Za-z0-9_]* )
    | (?P<number> \.? [0-9] (?: [eE][+-][0-9] | [A-Za-z0-9_.] )* )
    | (?P<string> " [^"\\\n]* (?: \\[^\n] [^"\\\n]* )* " | ' [^'\\\n]* (?: \\[^\n] [^'\\\n]* )* ' )
    | (?P<open>   ["'] [^\n]* )
    | (?P<mark>   [{}<>\[\]:;,-] )
    | (?P<bad>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
_DECIMAL = re.compile(r"(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?[fF]?")
_INTEGER = re.compile(r"0[xX][0-9a-fA-F]+|[1-9][0-9]{0,19}|0[0-7]*")  # 64 bits are 20 digits
_INFINITE = re.compile(r"inf(?:inity)?", re.IGNORECASE)
_ESCAPE = re.compile(
    rb"""\\ (?: (?P<octal> [0-7]{1,3} ) | [xX] (?P<hex> [0-9a-fA-F]{1,2} )
      | (?P<rune> u [0-9a-fA-F]{4} | U [0-9a-fA-F]{8} ) | (?P<plain> . ) )""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))


class Token(NamedTuple):
    """A piece of text. kind: name, number, string, open (string without end), mark, bad, end (of text)."""

    kind: str
    text: str
    start: int

    def __str__(self):
        if self.kind == "end":
            return "the end of the text"
        return shown(self.kind, self.text)


class Source:
    """A text with a name, and the line and column of each offset in it."""

    def __init__(self, text: str, name: str):
        self.text, self.name = text, name
        self._lines: list[int] = []  # offset at which each line starts

    def at(self, offset: int) -> str:
        """name:line:column; both count from 1."""
        if not self._lines:
            self._lines = [0, *(match.end() for match in re.finditer("\n", self.text))]
        line = bisect_right(self._lines, offset)
        return f"{self.name}:{line}:{offset - self._lines[line - 1] + 1}"


def shown(kind: str, text: str) -> str:
    """A token as an error message quotes it: a string with its own quotes, no more than one line of it."""
    short = text if len(text) <= 60 else f"{text[:56]} ..."
    return short if kind == "string" else repr(short)


def tokens(text: str) -> Iterator[Token]:
    """The tokens of text without blanks and comments, then end for ever."""
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "blank":
            yield Token(match.lastgroup, match.group(), match.start())
    while True:
        yield Token("end", "", len(text))


def integer(text: str) -> int | None:
    """The value of a decimal, hexadecimal (0x1f) or octal (017) number without sign; None for other text."""
    if not _INTEGER.fullmatch(text):
        return None
    return int(text, 8 if text[0] == "0" and text.isdigit() else 0)


def real(text: str) -> float | None:
    """The value of 1, 1.5, .5e-3, 2f, inf, infinity or nan in any case, without sign; None for other text."""
    if _DECIMAL.fullmatch(text):
        return float(text.rstrip("fF"))
    if _INFINITE.fullmatch(text):
        return math.inf
    return math.nan if text.lower() == "nan" else None


def unquote(text: str) -> bytes:
    """The bytes of a quoted string. Raises ValueError for an escape that does not exist."""
    return _ESCAPE.sub(_unescape, text[1:-1].encode("utf-8", "surrogateescape"))


def _unescape(match: re.Match) -> bytes:
    kind, text = match.lastgroup, match[match.lastgroup]
    if kind == "plain":
        if text[0] not in _PLAIN:
            raise ValueError(f"unknown escape {match.group().decode(errors='replace')}; write \\\\ for \\")
        return bytes([_PLAIN[text[0]]])
    value = int(text[1:], 16) if kind == "rune" else int(text, 8 if kind == "octal" else 16)
    if value > (0x10FFFF if kind == "rune" else 255) or 0xD800 <= value < 0xE000:
        raise ValueError(f"escape {match.group().decode()} is out of range")
    return chr(value).encode() if kind == "rune" else bytes([value])
