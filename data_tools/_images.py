"""One labelled input becomes one value of a database: read, decode, resize, encode.

Caffe: tools/convert_imageset.cpp, src/caffe/util/io.cpp.
"""

import argparse
from collections.abc import Callable
from pathlib import PurePath
from typing import NamedTuple

import numpy as np

from crnn.data.checksums import checksum
from crnn.data.datum import channels_first, decode_image, encode, encode_file
from crnn.data.image_header import read_header
from crnn.data.warp import VOID
from crnn.data_tools._archive import Source, read

PADDING = 104, 117, 123  # BGR: the mean colour of ImageNet, so that the padding is near zero without the mean


class Record(NamedTuple):
    """One labelled image. Its key is its number in 8 digits, `_`, and `name`.

    `beside` is what a second database keeps under the same key: a label map [H, W] or a label sequence
    [T, 1, 1]. A record is skipped in both where either cannot be read.
    """

    name: str
    source: Source | np.ndarray  # a file, or pixels as OpenCV has them, [H, W] or [H, W, 3]
    label: int
    beside: np.ndarray | Callable[[], np.ndarray] | None = None


class Form(NamedTuple):
    """How images are stored."""

    gray: bool
    width: int  # 0: as it is
    height: int
    fit: str  # warp | pad
    encoded: bool
    encode_type: str

    @property
    def stores_files(self) -> bool:
        return bool(self.encoded or self.encode_type)

    @classmethod
    def of(cls, args: argparse.Namespace) -> "Form":
        return cls(args.gray, args.resize_width, args.resize_height, args.fit, args.encoded, args.encode_type)


class Ready(NamedTuple):
    """A record as the database takes it, or the problem that keeps it out."""

    number: int
    key: bytes
    label: int
    value: bytes = b""
    crc: int = 0
    shape: tuple[int, ...] = ()
    pixels: np.ndarray | None = None  # [C, H, W], as they are in the value unless it is an image file
    problem: str = ""
    oddity: str = ""


def ready(number: int, key: bytes, record: Record, form: Form, beside: bool) -> Ready:
    """The record's value: of the image, or of what is kept beside it."""
    try:
        file, image = _pixels(record, form.gray)
        other = record.beside() if callable(record.beside) else record.beside
        if other is not None and other.ndim == 2 and other.shape != image.shape[:2]:
            raise ValueError(f"its label map is {other.shape}, the image {image.shape[:2]} pixels")
    except (OSError, ValueError) as error:
        return Ready(number, key, record.label, problem=getattr(error, "strerror", None) or str(error))
    if beside:
        pixels = resize_map(other, form)[None] if other.ndim == 2 else other
        value = encode(pixels, record.label)
    else:
        pixels, value = _value(record, file, resize(image, form), form)
    oddity = _oddity(record.name, file)
    crc = checksum(key, value)
    return Ready(number, key, record.label, value, crc, pixels.shape, pixels, oddity=oddity)


def _pixels(record: Record, gray: bool) -> tuple[bytes, np.ndarray]:
    """(the image file's bytes if any, its pixels as OpenCV has them); OSError or ValueError if unreadable."""
    if not isinstance(record.source, np.ndarray):
        file = read(record.source)
        return file, decode_image(file, color=not gray)
    if gray and record.source.ndim == 3:
        import cv2

        return b"", cv2.cvtColor(record.source, cv2.COLOR_BGR2GRAY)
    return b"", record.source


def resize(image: np.ndarray, form: Form) -> np.ndarray:
    """Warped to the form's size, bilinear as in Caffe; or scaled to fit and padded at the right and below."""
    import cv2

    if not form.height or image.shape[:2] == (form.height, form.width):
        return image
    if form.fit == "warp":
        return cv2.resize(image, (form.width, form.height))
    size = _fitting(image.shape, form)
    border = 0, form.height - size[1], 0, form.width - size[0]
    return cv2.copyMakeBorder(cv2.resize(image, size), *border, cv2.BORDER_CONSTANT, value=PADDING)


def resize_map(labels: np.ndarray, form: Form) -> np.ndarray:
    """A label map [H, W] as `resize` treats its image: nearest neighbour; the padding is VOID."""
    import cv2

    if not form.height or labels.shape == (form.height, form.width):
        return labels
    size = (form.width, form.height) if form.fit == "warp" else _fitting(labels.shape, form)
    inner = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    border = 0, form.height - size[1], 0, form.width - size[0]
    return cv2.copyMakeBorder(inner, *border, cv2.BORDER_CONSTANT, value=VOID)


def _fitting(shape: tuple[int, ...], form: Form) -> tuple[int, int]:
    """(width, height), the largest of the image's aspect that fits into the form's."""
    scale = min(form.height / shape[0], form.width / shape[1])
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _value(record: Record, file: bytes, image: np.ndarray, form: Form) -> tuple[np.ndarray, bytes]:
    pixels = channels_first(image)
    kind = _image_type(record, form)
    if not kind:
        return pixels, encode(pixels, record.label)
    if file and not form.height and _extension(record) in (kind, {"jpg": "jpeg"}.get(kind)):
        return pixels, encode_file(file, record.label)
    return pixels, encode_file(_encode_image(image, kind), record.label)


def _image_type(record: Record, form: Form) -> str:
    """The type of image file to store, or "" for pixels."""
    if form.encode_type or not form.encoded:
        return form.encode_type.lower()
    if isinstance(record.source, np.ndarray):
        return "png"
    if not _extension(record):
        raise ValueError(f"--encoded cannot tell the type of {record.name!r} by its name: give --encode-type")
    return _extension(record)


def _extension(record: Record) -> str:
    return PurePath(record.name).suffix[1:].lower()


def _encode_image(image: np.ndarray, kind: str) -> bytes:
    import cv2

    try:
        return cv2.imencode(f".{kind}", image)[1].tobytes()
    except cv2.error:
        raise ValueError(f"OpenCV writes no image files of type {kind!r}: use png or jpg") from None


#: Other endings of a kind's files.
ENDINGS = {"jpg": "jpeg", "tif": "tiff", "ppm": "pnm", "pgm": "pnm", "pbm": "pnm"}


def _oddity(name: str, file: bytes) -> str:
    header = read_header(file) if file else None
    if header is None:
        return ""
    ending = PurePath(name).suffix[1:].lower()
    named = ENDINGS.get(ending, ending)
    odd = [f"a {header.kind.upper()}"] if named != header.kind and named else []
    if header.channels == 4:
        odd.append("CMYK")
    return ", ".join(odd)
