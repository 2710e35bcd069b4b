"""Prototxt <-> message. Every problem of a text is found and reported at once, with file, line and column."""

import os
import re

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from crnn.proto import messages as pb
from crnn.proto import sniff
from crnn.proto.lexer import Source
from crnn.proto.parser import MAX_PROBLEMS, Parser, Path

MAX_BYTES = 64 << 20


class PrototxtError(ValueError):
    """A text that is not the message it should be.

    problems: one sentence each, led by file:line:column.
    document: what could be read nonetheless, for further checks; None where nothing could.
    """

    def __init__(self, problems: list[str], document: "Document | None" = None):
        super().__init__(problems)
        self.problems, self.document = problems, document

    def __str__(self):
        return "\n".join(self.problems)


class Document:
    """A message read from a text, which remembers where each value stood.

    message: the message.   name: the file, or the name given to the text.
    moved: path -> the path it was read at, for what an upgrade has put elsewhere.
    """

    def __init__(self, message: Message, source: Source, places: dict[Path, int]):
        self.message, self.name = message, source.name
        self.moved: dict[Path, Path] = {}
        self._source, self._places = source, places

    def where(self, *path: str | int) -> str:
        """`net.prototxt:12:3` of the value at path, or of the nearest one around it; at worst the name."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.moved:
                path = self.moved[path[:end]] + path[end:]
                break
        for end in range(len(path), 0, -1):
            if path[:end] in self._places:
                return self._source.at(self._places[path[:end]])
        return self.name


def load(path_or_text: str | os.PathLike, message_type: type[Message]) -> Document:
    """Reads a prototxt: a str with a newline or a '{' is the text itself, anything else a path.

    Raises OSError for a file that cannot be read, PrototxtError for one that is no such prototxt.
    """
    if isinstance(path_or_text, str) and ("\n" in path_or_text or "{" in path_or_text):
        return parse(path_or_text, message_type)
    path = os.fspath(path_or_text)
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    kind = sniff.kind(data)
    if kind is None and len(data) > MAX_BYTES:
        kind = f"larger than {MAX_BYTES >> 20} MB"
    if kind is not None:
        raise PrototxtError([f"{path}: this is {kind}, not a prototxt"])
    # Bytes that are not UTF-8 survive as surrogates: the parser allows them in comments only.
    return parse(data.decode("utf-8", "surrogateescape"), message_type, path)


def parse(text: str, message_type: type[Message], name: str = "<text>") -> Document:
    """The message that text describes. Raises PrototxtError with all problems of the text."""
    source = Source(text.removeprefix("\ufeff"), name)
    parser, message = Parser(source), message_type()
    parser.read(message)
    document = Document(message, source, parser.places)
    if _is_of(_TWIN.get(message_type.DESCRIPTOR), message, parser.problems):
        raise PrototxtError([f"{source.name}: {_SWAPPED[message_type.DESCRIPTOR]}"])
    if parser.problems:
        found = sorted(dict.fromkeys(parser.problems), key=lambda problem: problem.start)
        raise PrototxtError([f"{source.at(start)}: {text}" for start, text in found], document)
    return document


_NET, _SOLVER = pb.NetParameter.DESCRIPTOR, pb.SolverParameter.DESCRIPTOR
_TWIN = {_NET: _SOLVER, _SOLVER: _NET}
_SWAPPED = {
    _NET: "this is a solver's prototxt, not a net's: give the file that its `net` names",
    _SOLVER: "this is a net's prototxt, not a solver's: give the solver whose `net` names it",
}


def _is_of(other: Descriptor | None, message: Message, problems: list) -> bool:
    """Whether a text is of message type `other`: that has every field which message has not."""
    if other is None or not problems:
        return False
    unknown = re.compile(rf"unknown field '(\w+)' of {message.DESCRIPTOR.name}\b")
    named = [unknown.match(problem.text) for problem in problems[: MAX_PROBLEMS - 1]]
    return all(found and found[1] in other.fields_by_name for found in named) and all(
        field.name in other.fields_by_name for field, _ in message.ListFields()
    )


def dump(message: Message) -> str:
    """The message as a prototxt that `parse` reads back."""
    return text_format.MessageToString(message, as_utf8=True)
