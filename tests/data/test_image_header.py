"""What the header of an image file says, for files as OpenCV and Pillow write them."""

import io

import numpy as np
import pytest
from PIL import Image

from crnn.data.image_header import Header, read_header


def saved(kind: str, mode: str = "RGB", **options) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (37, 21)).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("file", "want"),
    [
        (saved("JPEG"), Header("jpeg", 37, 21, 3)),
        (saved("JPEG", "L", progressive=True, comment=b"x" * 900), Header("jpeg", 37, 21, 1)),
        (saved("JPEG", "CMYK"), Header("jpeg", 37, 21, 4)),
        (saved("JPEG", exif=b"Exif\0\0" + bytes(5000)), Header("jpeg", 37, 21, 3)),
        (saved("PNG", "P"), Header("png", 37, 21)),
        (saved("GIF", "P"), Header("gif", 37, 21)),
        (saved("BMP"), Header("bmp", 37, 21)),
        (saved("WEBP"), Header("webp", 37, 21)),
        (saved("WEBP", lossless=True), Header("webp", 37, 21)),
        (saved("TIFF"), Header("tiff", 37, 21)),
        (saved("TIFF", "L", compression="tiff_lzw"), Header("tiff", 37, 21)),
        (saved("PPM"), Header("pnm", 37, 21)),
        (saved("PPM", "L"), Header("pnm", 37, 21)),
        (b"P6 # by hand\n # twice\n37\n21 255\n", Header("pnm", 37, 21)),
        (
            b"MM\0*\0\0\0\x08\0\x02\1\0\0\3\0\0\0\1\0\x25\0\0\1\1\0\4\0\0\0\1\0\0\0\x15",
            Header("tiff", 37, 21),
        ),
        (saved("WEBP", "RGBA", exif=b"Exif\0\0" + bytes(50)), Header("webp", 37, 21)),
    ],
)
def test_kind_and_size(file, want):
    assert read_header(file) == want


def test_what_is_no_image_or_ends_early_has_none():
    assert read_header(b"") is None and read_header(b"\xff\xd8\xff\xe0\xff\xff") is None
    for file in (saved("JPEG"), saved("PNG"), saved("WEBP")):
        for size in range(24):
            assert read_header(file[:size]) is None


STARTS = (
    *(b"\xff\xd8", b"\xff\xd8\xff", b"BM", b"RIFFxxxxWEBPVP8 ", b"RIFFxxxxWEBPVP8L", b"GIF89a", b"P5 "),
    *(b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\x08\0\0\0\2\0"),
)


def test_no_bytes_make_it_fail():
    rng = np.random.default_rng(0)
    for start in STARTS:
        for _ in range(500):
            read_header(start + rng.integers(0, 256, rng.integers(0, 60), np.uint8).tobytes())
