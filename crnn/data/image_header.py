"""What the first bytes of an image file say of it, so that nothing is decoded that is too large."""

import re
import struct
from typing import NamedTuple

MAX_PIXELS = 100_000_000  # decoded at once: 300 MB in colour


class Header(NamedTuple):
    kind: str  # jpeg, png, gif, bmp, webp, tiff or pnm
    width: int
    height: int
    channels: int = 0  # of a JPEG: 1, 3, or 4 (CMYK); else 0


def read_header(file) -> Header | None:
    """The header of a file (bytes or a memoryview); None where it is of another kind or ends too early."""
    try:
        if file[:2] == b"\xff\xd8":
            return _jpeg(file)
        if file[:8] == b"\x89PNG\r\n\x1a\n":
            return Header("png", *struct.unpack_from(">II", file, 16))
        if file[:6] in (b"GIF87a", b"GIF89a"):
            return Header("gif", *struct.unpack_from("<HH", file, 6))
        if file[:2] == b"BM":
            return Header("bmp", *map(abs, struct.unpack_from("<ii", file, 18)))
        if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
            return _webp(file)
        if file[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(file, "<" if file[:1] == b"I" else ">")
        if words := re.match(rb"P[1-6](?:\s+#[^\n]*)*\s+(\d{1,9})(?:\s+#[^\n]*)*\s+(\d{1,9})\s", file[:4096]):
            return Header("pnm", int(words[1]), int(words[2]))
    except (struct.error, IndexError):
        pass  # shorter than its header: the decoder says what is wrong
    return None


def _jpeg(file) -> Header | None:
    """Walks the segments to the frame header, SOF0 to SOF15 without DHT, JPG and DAC."""
    at = 2
    while True:
        if file[at] != 0xFF:
            return None
        marker = file[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">HHB", file, at + 5)
            return Header("jpeg", width, height, channels)
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows
            at += 2
        else:
            at += 2 + struct.unpack_from(">H", file, at + 2)[0]


def _webp(file) -> Header | None:
    kind = file[12:16]
    if kind == b"VP8X":
        size = int.from_bytes(file[24:27], "little"), int.from_bytes(file[27:30], "little")
        return Header("webp", size[0] + 1, size[1] + 1)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", file, 21)
        return Header("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", file, 26)
        return Header("webp", width & 0x3FFF, height & 0x3FFF)
    return None


def _tiff(file, order: str) -> Header | None:
    """Of the first directory; an entry's value lies in its last four bytes, a short one in two of them."""
    (directory,) = struct.unpack_from(order + "I", file, 4)
    (count,) = struct.unpack_from(order + "H", file, directory)
    found = {}
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(order + "HH", file, at)
        (found[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), file, at + 8)
    return Header("tiff", found[256], found[257]) if {256, 257} <= found.keys() else None
