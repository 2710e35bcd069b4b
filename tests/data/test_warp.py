"""Rotation and scaling in training: places worked out by hand, the same for an image and its label map."""

import numpy as np
import pytest
from google.protobuf import text_format

from crnn.data import warp
from crnn.data.transformer import Transformer
from crnn.proto import pb

SHAPE = (2, 9, 9)


def param(text: str) -> pb.TransformationParameter:
    return text_format.Parse(text, pb.TransformationParameter())


def pictures(count: int, *shape) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, *shape), np.uint8)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_a_quarter_turn_moves_every_pixel_to_its_place(quarter):
    image = pictures(1, *SHAPE)[0]
    matrix = warp.about_centre(quarter * np.pi / 2, 1, SHAPE)
    turned = np.rot90(image, quarter, (1, 2))
    np.testing.assert_array_equal(warp.warp(image, matrix), turned)
    np.testing.assert_array_equal(warp.warp_map(image[:1], matrix), turned[:1])


def test_magnified_twice_every_second_pixel_is_one_of_the_record():
    image = pictures(1, *SHAPE)[0]
    big = warp.warp(image, warp.about_centre(0, 2, SHAPE))
    np.testing.assert_array_equal(big[:, ::2, ::2], image[:, 2:7, 2:7])


def test_reduced_an_image_is_mirrored_at_its_border_and_a_map_is_void():
    image = pictures(1, *SHAPE)[0]
    matrix = warp.about_centre(0, 0.5, SHAPE)
    np.testing.assert_array_equal(warp.warp(image, matrix)[:, 2:7, 2:7], image[:, ::2, ::2])
    small = warp.warp_map(image[:1], matrix)
    np.testing.assert_array_equal(small[:, 2:7, 2:7], image[:1, ::2, ::2])
    assert (small[:, :2] == warp.VOID).all() and (small[:, :, 7:] == warp.VOID).all()


def test_the_draws_keep_their_bounds_and_reach_them():
    matrices = warp.draw(np.random.default_rng(1), 5000, SHAPE, 30, 1.5)
    factors = np.hypot(matrices[:, 0, 0], matrices[:, 0, 1])
    angles = np.rad2deg(np.arctan2(matrices[:, 0, 1], matrices[:, 0, 0]))
    assert 1 / 1.5 <= factors.min() < 0.68 and 1.48 < factors.max() <= 1.5
    assert -30 <= angles.min() < -29.9 and 29.9 < angles.max() <= 30
    np.testing.assert_allclose(np.median(factors), 1, atol=0.02)  # as often larger as smaller
    centre = matrices @ [4, 4, 1]
    np.testing.assert_allclose(centre, np.full((5000, 2), 4), atol=1e-12)


def test_a_map_stays_with_its_image():
    """The image's first channel is the map times 10: after warp, crop and flip it still is, off the edges."""
    labels = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(1, 2, 2), 20, 1), 20, 2)
    images, maps = np.stack([labels * 10] * 50), np.stack([labels] * 50)
    transform = Transformer(
        param("crop_size: 32 mirror: true rotation: 15 scaling: 1.2"), pb.TRAIN, (1, 40, 40)
    )
    draw = transform.draw(50, np.random.default_rng(2))
    data, seen = transform.apply(images, draw), transform.apply_to_maps(maps, draw)
    assert data.shape == seen.shape == (50, 1, 32, 32)
    flat = np.isin(data, [0, 10, 20, 30]) & (seen != warp.VOID)
    assert flat.mean() > 0.8
    assert (data[flat] == 10 * seen[flat]).mean() > 0.995  # an interpolated edge may hit a multiple of ten
    assert len({one.tobytes() for one in seen}) == 50


def test_the_test_phase_is_not_augmented():
    images = pictures(3, *SHAPE)
    transform = Transformer(param("rotation: 90 scaling: 2"), pb.TEST, SHAPE)
    np.testing.assert_array_equal(transform(images, np.random.default_rng(0)), images)


def test_crops_and_flips_are_those_drawn_without_it():
    plain, warped = (
        Transformer(param(f"crop_size: 4 mirror: true {text}"), pb.TRAIN, SHAPE)
        for text in ("", "rotation: 10")
    )
    assert plain.draw(9, np.random.default_rng(3)).places == warped.draw(9, np.random.default_rng(3)).places


@pytest.mark.parametrize("text", ["rotation: -1", "scaling: 0.5"])
def test_what_it_refuses(text):
    with pytest.raises(ValueError, match="rotation must be at least 0, scaling at least 1: got"):
        Transformer(param(text), pb.TRAIN, SHAPE)
