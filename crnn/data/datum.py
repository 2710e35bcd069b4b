"""Datum, Caffe's record: pixels [C, H, W] with one label, raw, as floats, or as an image file.

Caffe: src/caffe/util/io.cpp. Colour is BGR, OpenCV's order.
"""

import functools

import numpy as np
from google.protobuf.message import DecodeError

from crnn.data.image_header import MAX_PIXELS, read_header
from crnn.proto import pb


class BadImage(ValueError):
    """A record or an image file that cannot be decoded, or is too large to be."""


def encode(array: np.ndarray, label: int) -> bytes:
    """The record of pixels [C, H, W], byte for byte as Caffe writes it; types other than uint8 as float32."""
    if array.ndim != 3:
        raise ValueError(f"a Datum holds [C, H, W], got shape {array.shape}")
    rest = pb.Datum(label=label, encoded=False)
    if array.dtype == np.uint8:
        # Joined in the order of the field numbers: protobuf would copy the pixels three times.
        return b"".join((_head(array.shape, array.size), array.tobytes(), rest.SerializeToString()))
    rest.float_data.extend(array.astype(np.float32).ravel().tolist())
    return _head(array.shape, 0) + rest.SerializeToString()


_DATA = b"\x22"  # field 4, a length and so many bytes


def _head(shape: tuple[int, int, int], size: int) -> bytes:
    """What precedes `size` bytes of pixels."""
    C, H, W = shape
    message = pb.Datum(channels=C, height=H, width=W).SerializeToString()
    return message + (_DATA + _varint(size) if size else b"")


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


def encode_file(image: bytes, label: int) -> bytes:
    """The record of an image file's bytes; as in Caffe its shape is left to the decoder."""
    return pb.Datum(data=image, label=label, encoded=True).SerializeToString()


def parse(raw: bytes) -> pb.Datum:
    """The message of a record, its image not decoded. Raises BadImage where it is no Datum."""
    try:
        return pb.Datum.FromString(raw)
    except DecodeError:
        raise BadImage("not a Datum") from None


def decode(raw: bytes, color: bool | None = None) -> tuple[np.ndarray, int]:
    """(pixels [C, H, W] uint8 or float32, label) of a record. Raw pixels are a read-only view of it, colour
    out of an image file is a view of OpenCV's [H, W, C].

    `color` is for image files: True gives 3 channels (force_color), False one (force_gray), None what the
    file has. As in Caffe it does not touch raw records.

    Raises BadImage where the record is no Datum, its pixels do not fill its shape, or its image is damaged.
    """
    datum = parse(raw)
    if datum.encoded:
        image = decode_image(datum.data, color)
        return (image[None] if image.ndim == 2 else image.transpose(2, 0, 1)), datum.label
    shape = datum.channels, datum.height, datum.width
    pixels = np.frombuffer(datum.data, np.uint8) if datum.data else np.array(datum.float_data, np.float32)
    if min(shape) < 1 or pixels.size != shape[0] * shape[1] * shape[2]:
        raise BadImage(f"a Datum of shape {shape} with {pixels.size} values")
    return pixels.reshape(shape), datum.label


class Frame:
    """Raw uint8 records of one shape, read without a copy.

    `encode` and Caffe write the shape, the pixels, the rest: all records of a shape begin with the same
    bytes, and only the few after the pixels need be parsed.
    """

    def __init__(self, shape: tuple[int, int, int]):
        self.shape, self.size = shape, int(np.prod(shape))
        self.head = _head(shape, self.size)
        self.end = len(self.head) + self.size

    def read(self, raw) -> tuple[np.ndarray, int] | None:
        """What `decode` gives for a record (bytes or a memoryview); None where it is written otherwise."""
        if not 0 <= len(raw) - self.end <= _LONGEST_REST or raw[: len(self.head)] != self.head:
            return None
        label = _label(bytes(raw[self.end :]))
        if label is None:
            return None
        return np.frombuffer(raw, np.uint8, self.size, len(self.head)).reshape(self.shape), label


_LONGEST_REST = 32


@functools.lru_cache(1 << 16)
def _label(rest: bytes) -> int | None:
    """The label in what follows a record's pixels; None where more is in it."""
    try:
        datum = pb.Datum.FromString(rest)
    except DecodeError:
        return None
    fields = {field.name for field, _ in datum.ListFields()}
    return datum.label if fields <= {"label", "encoded"} and not datum.encoded else None


def decode_image(file: bytes, color: bool | None) -> np.ndarray:
    """uint8 [H, W] or [H, W, C] of an image file. Raises BadImage where it is damaged or not 8 bits deep.

    A JPEG without its end marker counts as damaged: OpenCV 5 refuses it, OpenCV 4 fills the rest with grey.
    The orientation of an EXIF header is not followed, as in the OpenCV 2.4 of Caffe's time. What the header
    says is larger than MAX_PIXELS is not decoded.
    """
    import cv2

    header = read_header(file)
    if header and header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height} pixels"
        raise BadImage(f"an image of {size}, more than the {MAX_PIXELS:,} that are decoded at once")
    last_end = file.rfind(b"\xff\xd9")
    if file.startswith(b"\xff\xd8") and file.find(b"\xff\xda", last_end + 1) >= 0:  # a scan after it
        raise BadImage(f"a truncated JPEG of {len(file)} bytes")
    flag = {None: cv2.IMREAD_UNCHANGED, True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE}[color]
    flag |= cv2.IMREAD_IGNORE_ORIENTATION if color is not None else 0
    try:
        image = cv2.imdecode(np.frombuffer(file, np.uint8), flag)
    except cv2.error as error:  # no bytes at all, or more pixels than OpenCV agrees to hold
        raise BadImage(f"an image of {len(file)} bytes that cannot be decoded ({error.err})") from None
    if image is None:
        raise BadImage(f"an image of {len(file)} bytes that cannot be decoded")
    if image.dtype != np.uint8:
        raise BadImage(f"an image of {8 * image.itemsize} bits a channel, Caffe takes 8")
    return image


def channels_first(image: np.ndarray) -> np.ndarray:
    """[C, H, W] of OpenCV's [H, W] or [H, W, C]."""
    return np.ascontiguousarray(image[None] if image.ndim == 2 else image.transpose(2, 0, 1))
