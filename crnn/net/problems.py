"""The problems of a net: what the parser found in its text and what the wiring finds, in the text's order."""

import math
import re
from bisect import bisect

from crnn.proto.text import Document, PrototxtError
from crnn.proto.upgrade import read_net


class Problems:
    """Sentences led by their places, "net.prototxt:12:3: ...".

    misread: the layers, by index, in whose text the parser found problems.
    incomplete: whether a top may have been lost with what could not be read.
    """

    def __init__(self, document: Document, found=()):
        self.document, self.found = document, list(found)
        layers = document.message.layer
        starts = sorted((self.position(document.where("layer", i)), i) for i in range(len(layers)))
        before = [bisect(starts, (self.position(text), math.inf)) for text in self.found]
        self.misread = {starts[n - 1][1] for n in before if n}
        self.incomplete = 0 in before or any(not layers[i].top for i in self.misread)

    def position(self, place: str) -> tuple[int, int]:
        """(line, column) of what begins with a place of this document; (0, 0) if it has none."""
        match = re.match(r":(\d+):(\d+)", place[len(self.document.name) :])
        return (int(match[1]), int(match[2])) if match else (0, 0)

    def add(self, text: str, *path: str | int) -> None:
        """A problem of the value at this path of the message."""
        self.found.append(f"{self.document.where(*path)}: {text}")

    def raise_any(self) -> None:
        if self.found:
            raise PrototxtError(sorted(self.found, key=self.position), self.document)


def read(source) -> Problems:
    """The document of a path or text, or the one given, with the problems of its text.

    Raises OSError, and PrototxtError where nothing could be read.
    """
    if isinstance(source, Document):
        return Problems(source)
    try:
        return Problems(read_net(source))
    except PrototxtError as error:
        if error.document is None:
            raise
        return Problems(error.document, error.problems)
