"""Predictions over images: VOC's colours, untouched pixels where nothing counts."""

import numpy as np

from crnn.experiments.overlays import PALETTE, drawn


def test_the_colours_are_vocs():
    """Background, aeroplane, bicycle, bird, boat, cat, person, monitor, void: as in its development kit."""
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    known |= {15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    for i, colour in known.items():
        assert tuple(PALETTE[i]) == colour


def test_a_class_colours_its_pixels_and_void_leaves_them():
    image = np.full((1, 3, 3), 100, np.uint8)
    got = drawn(image, np.array([[0, 1, 255]], np.uint8))
    assert got.tolist() == [[[40, 40, 40], [116, 40, 40], [100, 100, 100]]]
    np.testing.assert_array_equal(drawn(image[..., 0], np.array([[0, 1, 255]], np.uint8)), got)
