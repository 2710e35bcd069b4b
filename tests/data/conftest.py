"""A database of ten records, and loaders that end with the test."""

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.loader import BatchLoader
from crnn.proto import pb
from tests.data.ten_records import write

CROPPED = pb.TransformationParameter(crop_size=3, mirror=True)


@pytest.fixture
def source(tmp_path):
    """Ten records [2, 5, 6] whose label is their number."""
    images = np.random.default_rng(0).integers(0, 256, (10, 2, 5, 6), np.uint8)
    write(tmp_path / "db", [encode(image, i) for i, image in enumerate(images)])
    return tmp_path / "db"


@pytest.fixture
def loader(source):
    made = []

    def make(batch_size=4, transform=CROPPED, phase=pb.TRAIN, seed=1, path=source, **rest):
        made.append(BatchLoader(path, batch_size, transform, phase, seed=seed, **rest))
        return made[-1]

    yield make
    for one in made:
        one.close()
