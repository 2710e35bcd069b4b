"""Databases read back, `crnn data ...` run as a user runs it, and small files of the published forms."""

import io
import subprocess
import sys
import tarfile

import cv2
import numpy as np
import pytest
from PIL import Image

from crnn.data.lmdb_reader import LmdbReader
from crnn.proto import pb


@pytest.fixture
def contents():
    """Reads a database: [(key, Datum)]."""

    def read(path):
        return [(key.decode(), pb.Datum.FromString(value)) for key, value in LmdbReader(path).items()]

    return read


@pytest.fixture
def crnn():
    """Runs `crnn ARGS`: a CompletedProcess with text output."""

    def run(*args):
        command = [sys.executable, "-m", "crnn", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def photo():
    """photo(seed, height, width, kind="jpg"): an image file of smooth colours."""

    def make(seed: int, height: int = 30, width: int = 40, kind: str = "jpg") -> bytes:
        corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), np.uint8)
        return cv2.imencode(f".{kind}", cv2.resize(corners, (width, height)))[1].tobytes()

    return make


@pytest.fixture
def tar():
    """tar(path, {name: bytes}): writes a tar, compressed if its name says so."""

    def write(path, files: dict[str, bytes], form=tarfile.GNU_FORMAT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w", format=form) as archive:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    return write


@pytest.fixture
def unpack():
    """unpack(folder, {name: bytes}): the same files, unpacked."""

    def write(folder, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    return write


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def odd_files():
    """Readable files that are not plain colour JPEGs: name -> (bytes, the BGR colour of the upper left)."""
    r, g, b = 200, 100, 40
    plain = Image.new("RGB", (16, 12), (r, g, b))
    turned = Image.new("RGB", (16, 12), (0, 0, 0))
    turned.paste((r, g, b), (0, 0, 8, 12))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    deep = np.full((12, 16, 3), (b << 8 | 77, g << 8 | 3, r << 8 | 250), np.uint16)
    return {
        "grey.jpg": (_saved(Image.new("L", (16, 12), 90), "JPEG"), (90, 90, 90)),
        "cmyk.jpg": (_saved(Image.new("CMYK", (16, 12), (255, 0, 0, 0)), "JPEG"), (255, 255, 0)),
        "png.JPEG": (_saved(plain, "PNG"), (b, g, r)),
        "gif.jpg": (_saved(plain.convert("P"), "GIF"), None),  # OpenCV reads GIF since 4.11 only
        "palette.png": (_saved(plain.quantize(2), "PNG"), (b, g, r)),
        "alpha.png": (_saved(Image.new("RGBA", (16, 12), (r, g, b, 9)), "PNG"), (b, g, r)),
        "deep.png": (cv2.imencode(".png", deep)[1].tobytes(), (b, g, r)),
        "progressive.jpg": (_saved(plain, "JPEG", progressive=True), (b, g, r)),
        "one pixel.jpg": (_saved(Image.new("RGB", (1, 1), (r, g, b)), "JPEG"), (b, g, r)),
        "turned.jpg": (_saved(turned, "JPEG", exif=exif.tobytes(), quality=95), (b, g, r)),
    }


@pytest.fixture
def bad_files(photo):
    """Files that cannot be read: name -> (bytes, what is said of them)."""
    good = photo(0)
    frame = good.index(b"\xff\xc0") + 5  # height and width of the frame header
    png = photo(0, kind="png")
    return {
        "empty.jpg": (b"", "an image of 0 bytes that cannot be decoded"),
        "cut.jpg": (good[:-20], "a truncated JPEG of"),
        "page.jpg": (b"<html>404</html>", "an image of 16 bytes that cannot be decoded"),
        "vast.jpg": (
            good[:frame] + b"\xff\xdc\xff\xdc" + good[frame + 4 :],
            "an image of 65500 x 65500 pixels, more than the 100,000,000 that are decoded at once",
        ),
        "vast.png": (png[:16] + b"\x00\x00\xff\xff" * 2 + png[24:], "an image of 65535 x 65535 pixels"),
        "gone.jpg": (None, "No such file"),
    }
