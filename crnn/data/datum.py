"""Datum, Caffe's record: pixels [C, H, W] with one label, raw, as floats, or as an image file.

Caffe: src/caffe/util/io.cpp. Colour is BGR, OpenCV's order.
"""

import functools
from collections.abc import Callable

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


def decode(raw, color: bool | None = None) -> tuple[np.ndarray, int]:
    """(pixels [C, H, W] uint8 or float32, label) of a record, bytes or a memoryview. Raw pixels are a
    read-only view of bytes, colour out of an image file is a view of OpenCV's [H, W, C].

    `color` is for image files: True gives 3 channels (force_color), False one (force_gray), None what the
    file has. As in Caffe it does not touch raw records.

    Raises BadImage where the record is no Datum, its pixels do not fill its shape, or its image is damaged.
    """
    if found := jpeg(raw):
        file, label = found
        return _planes_first(decoder(color)(file)), label
    datum = parse(bytes(raw))
    if datum.encoded:
        return _planes_first(decode_image(datum.data, color)), datum.label
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
        label, encoded = _label(bytes(raw[self.end :])) or (None, None)
        if label is None or encoded:
            return None
        return np.frombuffer(raw, np.uint8, self.size, len(self.head)).reshape(self.shape), label


_LONGEST_REST = 32


def jpeg(raw) -> tuple[np.ndarray, int] | None:
    """(the file, label) of a record of a JPEG as Caffe writes it: uint8 [n], a view of `raw`, bytes or a
    memoryview, that `decoder` may be given. None for every other record: `decode` says what it is.
    """
    raw, size, start = memoryview(raw), 0, 1
    if raw[:1] != _DATA:
        return None
    for byte in raw[1:6]:  # the varint of the file's size
        size |= (byte & 0x7F) << 7 * (start - 1)
        start += 1
        if byte < 0x80:
            break
    else:
        return None
    end = start + size
    if not 0 <= len(raw) - end <= _LONGEST_REST:
        return None
    file, (label, encoded) = raw[start:end], _label(bytes(raw[end:])) or (0, False)
    if not encoded or file[:2] != _START or file[-2:] != _END:
        return None
    header = read_header(file)
    if header is None or header.width * header.height > MAX_PIXELS:
        return None
    return np.frombuffer(file, np.uint8), label


@functools.lru_cache(1 << 16)
def _label(rest: bytes) -> tuple[int, bool] | None:
    """(label, encoded) in what follows a record's data; None where more is in it."""
    try:
        datum = pb.Datum.FromString(rest)
    except DecodeError:
        return None
    fields = {field.name for field, _ in datum.ListFields()}
    return (datum.label, datum.encoded) if fields <= {"label", "encoded"} else None


_START, _END, _SCAN = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"  # markers of a JPEG


def decode_image(file: bytes, color: bool | None) -> np.ndarray:
    """uint8 [H, W] or [H, W, C] of an image file. Raises BadImage where it is damaged or not 8 bits deep.

    A JPEG without its end marker counts as damaged: OpenCV 5 refuses it, OpenCV 4 fills the rest with grey.
    The orientation of an EXIF header is not followed, as in the OpenCV 2.4 of Caffe's time. What the header
    says is larger than MAX_PIXELS is not decoded.
    """
    header = read_header(file)
    if header and header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height} pixels"
        raise BadImage(f"an image of {size}, more than the {MAX_PIXELS:,} that are decoded at once")
    if file.startswith(_START) and file.find(_SCAN, file.rfind(_END) + 1) >= 0:  # a scan after its end
        raise BadImage(f"a truncated JPEG of {len(file)} bytes")
    return decoder(color)(np.frombuffer(file, np.uint8))


@functools.cache
def decoder(color: bool | None) -> Callable[[np.ndarray], np.ndarray]:
    """The function that makes uint8 [H, W] or [H, W, C] of a file, uint8 [n], after `decode_image`'s checks
    of size and end. It raises BadImage.
    """
    import cv2

    flag = {None: cv2.IMREAD_UNCHANGED, True: cv2.IMREAD_COLOR, False: cv2.IMREAD_GRAYSCALE}[color]
    flag |= cv2.IMREAD_IGNORE_ORIENTATION if color is not None else 0

    def decode_file(file: np.ndarray) -> np.ndarray:
        try:
            image = cv2.imdecode(file, flag)
        except cv2.error as error:  # no bytes at all, or more pixels than OpenCV agrees to hold
            raise BadImage(f"an image of {len(file)} bytes that cannot be decoded ({error.err})") from None
        if image is None:
            raise BadImage(f"an image of {len(file)} bytes that cannot be decoded")
        if image.dtype != np.uint8:
            raise BadImage(f"an image of {8 * image.itemsize} bits a channel, Caffe takes 8")
        return image

    return decode_file


def _planes_first(image: np.ndarray) -> np.ndarray:
    """[C, H, W] of OpenCV's [H, W] or [H, W, C], a view."""
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def channels_first(image: np.ndarray) -> np.ndarray:
    """[C, H, W] of OpenCV's [H, W] or [H, W, C]."""
    return np.ascontiguousarray(_planes_first(image))
