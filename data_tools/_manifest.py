"""What a converter says of a database it made: `manifest.json` beside its records.

dataset, database           names
made_by, decoder            versions of crnn and OpenCV, OpenCV's JPEG library
options                     size, fit, gray, encoded, shuffle, seed
inputs                      of each list its bytes and sha256, of each archive its bytes
listed, records, official   inputs, records made of them, records of the published set
classes, labels             number of classes; how many records each label has
shape, mean                 [C, H, W] of every record, null if they differ; path of the mean image
crc32                       sha256 of the file of checksums: equal for equal records in equal order
skipped, oddities           inputs that could not be read and why; files that are not what their name says
"""

import hashlib
import json
import os
from collections import Counter

import numpy as np

from crnn.data import checksums
from crnn.data.datum import decode, parse
from crnn.data_tools._store import MANIFEST, Store
from crnn.proto.form import has_form

_FORM = {
    "dataset": str,
    "made_by": str,
    "decoder": {"opencv": str, "jpeg": str},
    "options": dict,
    "inputs": {str: dict},
    "listed": int,
    "records": int,
    "official": int | None,
    "classes": int | None,
    "map_classes": int | None,
    "labels": {str: int},
    "shape": list | None,
    "mean": str | None,
    "crc32": str,
    "skipped": [(int, str, str)],
    "oddities": [(int, str, str)],
}
_NOT_ALWAYS = {"classes": None, "map_classes": None}


def read_manifest(folder) -> dict | None:
    """The manifest of a database, None where it has none. Raises OSError if damaged."""
    path = os.path.join(folder, MANIFEST)
    if not os.path.exists(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except (ValueError, RecursionError) as error:  # no JSON, or brackets in brackets
        raise OSError(f"{path} is damaged ({error}): convert the data again") from None
    known = {**_NOT_ALWAYS, **manifest} if isinstance(manifest, dict) else {}
    for name, form in _FORM.items():
        if not has_form(known, {name: form}):
            raise OSError(f"{path} is damaged ({name!r} is missing or odd): convert the data again")
    return known


def decoder() -> dict[str, str]:
    """What decodes images here; other versions may give other pixels."""
    import cv2

    lines = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if ":" in line]
    jpeg = [value.strip() for name, value in lines if name.strip() == "JPEG"]
    return {"opencv": cv2.__version__, "jpeg": jpeg[0] if jpeg else "unknown"}


def digest(path) -> dict:
    """Bytes and sha256 of a list."""
    with open(path, "rb") as file:
        data = file.read()
    return digest_of(data)


def digest_of(data: bytes) -> dict:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Tally:
    """Counts over the records of a database and, if `summed`, the sum of their pixels.

    Of image files (`files`) the shape counts only until the run ends: what is there already is not decoded.
    """

    def __init__(self, summed: bool, files: bool = False):
        self.summed, self.counts_shapes = summed and not files, not files
        self.labels: Counter = Counter()
        self.shapes: dict[tuple[int, ...], None] = {}  # a set in the order of first records
        self._total: np.ndarray | None = None  # float64 [C, H, W]: exact for 8-bit pixels

    def add(self, label: int, shape: tuple[int, ...]) -> None:
        self.labels[label] += 1
        self.shapes.setdefault(shape)

    def add_sum(self, total: np.ndarray) -> None:
        if self._total is None:
            self._total = np.zeros(total.shape, np.float64)
        if self._total.shape == total.shape:
            self._total += total

    def add_value(self, value: bytes) -> None:
        """A record as the database has it. Image files are not decoded: their shape is not counted."""
        if parse(value).encoded:
            self.labels[parse(value).label] += 1
            return
        pixels, label = decode(value)
        self.add(label, pixels.shape)
        if self.summed:
            self.add_sum(pixels)

    @property
    def first_shape(self) -> tuple[int, ...] | None:
        return next(iter(self.shapes), None)

    @property
    def mean(self) -> np.ndarray | None:
        """float32 [C, H, W]; None where shapes differ or nothing was summed."""
        if self._total is None or len(self.shapes) != 1:
            return None
        return (self._total / self.labels.total()).astype(np.float32)


def pixel_sum(images: list[np.ndarray]) -> np.ndarray | None:
    """float32 [C, H, W], exact for up to 65,000 images of 8 bits; None where shapes differ."""
    import cv2

    if len({image.shape for image in images}) != 1:
        return None
    C, H, W = images[0].shape
    total = np.zeros((C * H, W), np.float32)
    for image in images:
        cv2.accumulate(image.reshape(C * H, W), total)
    return total.reshape(C, H, W)


def finished(run: dict, store: Store, tally: Tally, listed: int, mean) -> dict:
    """The manifest of a database whose records are all committed."""
    return {
        **run,
        "listed": listed,
        "records": store.records,
        "labels": {str(label): n for label, n in sorted(tally.labels.items())},
        "shape": tally.first_shape if len(tally.shapes) == 1 and tally.counts_shapes else None,
        "mean": mean and os.path.relpath(mean, store.path),
        "crc32": digest(os.path.join(store.partial, checksums.NAME))["sha256"],
        "skipped": [[r.number, r.name, r.text] for r in store.remarks if r.skipped],
        "oddities": [[r.number, r.name, r.text] for r in store.remarks if not r.skipped],
    }
