"""Recursive descent over the tokens of a prototxt, led by the descriptors of the message it fills.

The language is protobuf's text format without extensions and Any, which Caffe does not use.
Source: https://protobuf.dev/reference/protobuf/textformat-spec
"""

import contextlib
import difflib
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from crnn.proto.forks import FORKS
from crnn.proto.lexer import Source, Token, shown, tokens, unquote
from crnn.proto.values import Literal, convert

Path = tuple[str | int, ...]  # of a value in a message: ("layer", 3, "convolution_param", "pad", 0)

MAX_DEPTH = 100
MAX_PROBLEMS = 100  # a text with more is not a prototxt

_CLOSING = {"{": "}", "<": ">", "[": "]"}


class Problem(NamedTuple):
    """What is wrong with a text, and at which offset."""

    start: int
    text: str


class GivenUp(Exception):
    """The rest of the text is not worth reading; the last problem says why."""


class Parser:
    """Reads a text into a message. What it cannot read it notes in `problems` and steps over.

    problems: in the order found.   places: path of each value read -> its offset in the text.
    """

    def __init__(self, source: Source):
        self.problems: list[Problem] = []
        self.places: dict[Path, int] = {}
        self._source = source
        self._tokens = tokens(source.text)
        self._token, self._ahead = next(self._tokens), next(self._tokens)
        self._open: list[Descriptor] = []  # the messages being read, outermost first
        self._gap = -1  # offset before which an unclosed block was reported

    def read(self, message: Message) -> None:
        """Reads the whole text into message."""
        with contextlib.suppress(GivenUp):
            self._fields(message, (), None)

    def _advance(self) -> Token:
        token = self._token
        self._token, self._ahead = self._ahead, next(self._tokens)
        return token

    def _accept(self, mark: str) -> bool:
        if self._token.text != mark:
            return False
        self._advance()
        return True

    def _problem(self, token: Token, text: str) -> None:
        printable = text.encode("utf-8", "backslashreplace").decode()  # of bytes that are not UTF-8
        self.problems.append(Problem(token.start, printable))
        if len(self.problems) == MAX_PROBLEMS:
            self.problems.append(Problem(token.start, "too many problems; the rest was not read"))
            raise GivenUp

    def _at_field(self) -> bool:
        return self._token.kind == "name" and self._ahead.text in (":", "{", "<")

    def _fields(self, message: Message, path: Path, opening: Token | None) -> None:
        """The fields of message, up to what closes `opening`, or to the end of the text."""
        close = _CLOSING[opening.text] if opening else None
        self._open.append(message.DESCRIPTOR)
        while self._token.kind != "end" and not self._left_open():
            if self._token.text in ("}", ">"):
                token = self._advance()
                if token.text == close:
                    opening = None
                    break
                self._problem(
                    token, f"{token} does not close {opening}" if opening else f"{token} closes nothing"
                )
                continue
            self._field(message, path)
            if self._token.text in (",", ";"):
                self._advance()
        self._open.pop()
        if opening:
            self._unclosed(opening)
        for name in message.FindInitializationErrors():
            if "." not in name:
                text = f"{message.DESCRIPTOR.name} lacks '{name}', which it must have"
                self.problems.append(Problem(self.places.get(path, 0), text))

    def _left_open(self) -> bool:
        """Whether a block of the outermost message starts here, although an inner one is not closed.

        Told by the name standing in column 1. Without this, one lost '}' would spoil every later layer.
        """
        name, start = self._token.text, self._token.start
        return (
            len(self._open) > 1
            and self._token.kind == "name"  # else protobuf fails on bytes that are not UTF-8
            and self._ahead.text == "{"
            and name in self._open[0].fields_by_name
            and name not in self._open[-1].fields_by_name
            and self._source.text[start - 1] == "\n"
        )

    def _unclosed(self, opening: Token) -> None:
        if self._gap != self._token.start:  # one lost bracket leaves all blocks around it open
            self._gap = self._token.start
            self._problem(opening, f"{opening} is not closed before {self._source.at(self._gap)}")

    def _field(self, message: Message, path: Path) -> None:
        name = self._token
        if name.kind != "name":
            self._problem(name, f"expected a field name, got {name}")
            return self._resume()
        self._advance()
        field = message.DESCRIPTOR.fields_by_name.get(name.text)
        if field is None:
            self._problem(name, self._unknown(name.text))
            return self._skip_value()
        if not self._accept(":") and field.message_type is None:
            self._problem(self._token, f"expected ':' after '{name.text}', got {self._token}")
        if is_repeated(field) and self._token.text == "[":
            return self._list(message, field, path)
        self._value(message, field, path, name)

    def _list(self, message: Message, field: FieldDescriptor, path: Path) -> None:
        opening = self._advance()
        while self._token.text != "]":
            if self._token.kind == "end" or self._at_field():
                return self._unclosed(opening)
            self._value(message, field, path, self._token)
            if self._token.text != "]" and not self._accept(","):
                self._problem(self._token, f"expected ',' or ']' in a list, got {self._token}")
                return self._resume()
        self._advance()

    def _value(self, message: Message, field: FieldDescriptor, path: Path, place: Token) -> None:
        """One value into message; place: the token that errors and `where` point at."""
        values = getattr(message, field.name) if is_repeated(field) else None
        path = (*path, field.name) if values is None else (*path, field.name, len(values))
        if values is None and message.HasField(field.name):
            first = self._source.at(self.places[path])
            self._problem(place, f"'{field.name}' is given twice, first at {first}")
            message = type(message)()  # read on, for the problems inside
        self.places.setdefault(path, place.start)
        if field.message_type is not None:
            if self._token.text not in ("{", "<"):
                self._problem(self._token, f"expected '{{' after '{field.name}', got {self._token}")
                return self._skip_value()
            child = getattr(message, field.name) if values is None else values.add()
            child.SetInParent()
            return self._fields(child, path, self._advance())
        token, literal = self._token, self._literal(field)
        if literal is None:
            return
        try:
            value = convert(field, literal)
        except ValueError as error:
            return self._problem(token, f"'{field.name}' of {field.containing_type.name} {error}")
        if values is None:
            setattr(message, field.name, value)
        else:
            values.append(value)

    def _literal(self, field: FieldDescriptor) -> Literal | None:
        """The scalar that stands here; None, with a problem noted, where there is none."""
        first = self._token
        negative = self._accept("-")
        token = self._token
        if token.kind == "open":
            self._advance()
            return self._problem(token, "the string is not closed on its line")
        if token.kind not in ("name", "number", "string") or self._at_field():
            lack = "takes one value, not a list or block" if token.text in _CLOSING else "has no value"
            self._problem(first, f"'{field.name}' {lack}")
            return self._skip_value() if token.text in _CLOSING else None
        self._advance()
        if token.kind != "string" or negative:
            return Literal(token.kind, "-" * negative + token.text)
        pieces = [token]
        while self._token.kind == "string":
            pieces.append(self._advance())
        try:
            return Literal("string", token.text, b"".join(unquote(piece.text) for piece in pieces))
        except ValueError as error:
            return self._problem(token, str(error))

    def _unknown(self, name: str) -> str:
        """The sentence about a field that the innermost open message does not have."""
        message = self._open[-1]
        text = f"unknown field {shown('name', name)} of {message.name}"
        outer = [m.name for m in self._open[:-1] if name in m.fields_by_name]
        inner = [f.name for f in message.fields if f.message_type and name in f.message_type.fields_by_name]
        close = difflib.get_close_matches(name, message.fields_by_name, 1)
        if outer:
            return f"{text}; {outer[-1]} has it: is a '}}' missing before it?"
        if name in FORKS:
            return f"{text}; a fork of Caffe has it ({FORKS[name]})"
        if inner:
            return f"{text}; it belongs in {', '.join(inner[:3])}{' ...' if len(inner) > 3 else ''}"
        if close:
            return f"{text}; did you mean '{close[0]}'?"
        return text

    def _skip_value(self) -> None:
        """Steps over what may follow a field's name."""
        self._accept(":")
        if self._token.text in _CLOSING:
            return self._skip_block()
        self._accept("-")
        while self._token.kind in ("string", "open"):
            self._advance()
            if self._token.kind != "string":
                return
        if self._token.kind in ("name", "number") and not self._at_field():
            self._advance()

    def _skip_block(self) -> None:
        """Steps over a bracket and all it holds."""
        opening, closers = self._token, []
        while self._token.kind != "end" and not (closers and self._left_open()):
            token = self._advance()
            if token.kind == "mark" and token.text in _CLOSING:
                closers.append(_CLOSING[token.text])
                if len(closers) > MAX_DEPTH:
                    self._problem(token, f"blocks nest deeper than {MAX_DEPTH}; the rest was not read")
                    raise GivenUp
            elif token.text in closers:
                while closers.pop() != token.text:
                    pass
                if not closers:
                    return
        self._unclosed(opening)

    def _resume(self) -> None:
        """Steps over what makes no sense, up to the next field or closing bracket."""
        while self._token.kind != "end" and self._token.text not in ("}", ">") and not self._at_field():
            if self._token.text in _CLOSING:
                self._skip_block()
            else:
                self._advance()


def is_repeated(field: FieldDescriptor) -> bool:
    """Whether a field is a list. (protobuf 6 renamed the question, 7 dropped the old one.)"""
    if hasattr(field, "is_repeated"):
        return field.is_repeated
    return field.label == field.LABEL_REPEATED
