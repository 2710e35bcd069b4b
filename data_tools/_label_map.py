"""Label maps stored as PNG files with a palette: the indices, which OpenCV alone would turn into colours."""

import struct
import zlib

import numpy as np

from crnn.data.datum import decode_image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3  # colour types


def palette_indices(file: bytes) -> np.ndarray:
    """uint8 [H, W]: the palette indices of a PNG, or its grey levels. Raises ValueError for other files.

    A palette PNG has the same pixel data as a grey one, so the file is handed to the decoder as grey.
    """
    if not file.startswith(_SIGNATURE):
        raise ValueError("a label map that is no PNG")
    chunks = list(_chunks(file))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ValueError("a PNG without a header")
    depth, colour = chunks[0][1][8:10]
    if colour not in (_GREY, _PALETTE):
        raise ValueError(f"a label map of colour type {colour}, wanted a palette or grey")
    if colour == _PALETTE:
        header = chunks[0][1][:9] + bytes([_GREY]) + chunks[0][1][10:]
        pixels = [chunk for chunk in chunks if chunk[0] in (b"IDAT", b"IEND")]
        file = _SIGNATURE + b"".join(_packed(*chunk) for chunk in [(b"IHDR", header), *pixels])
    grey = decode_image(file, color=None)
    return grey // (255 // ((1 << depth) - 1)) if colour == _PALETTE and depth < 8 else grey


def _chunks(file: bytes):
    """(type, data) of each chunk."""
    at = len(_SIGNATURE)
    while at < len(file):
        if len(file) < at + 12:
            raise ValueError("a PNG that ends within a chunk")
        (length,) = struct.unpack_from(">I", file, at)
        if len(file) < at + 12 + length:
            raise ValueError("a PNG that ends within a chunk")
        yield file[at + 4 : at + 8], file[at + 8 : at + 8 + length]
        at += 12 + length


def _packed(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
