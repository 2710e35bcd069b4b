"""Random rotation and scaling of records about their centre, in training (Xie 2016, section 5.1)."""

import numpy as np

VOID = 255  # the label of a place outside its map


def draw(rng: np.random.Generator, count: int, shape, rotation: float, scaling: float) -> np.ndarray:
    """float64 [count, 2, 3], affine maps of pixels (x, y) of a record [C, H, W] onto their new places.

    rotation: degrees; each record is turned by an angle uniform in ± this.    scaling: each is magnified by a
    factor whose logarithm is uniform in ± log scaling.
    """
    angles = np.deg2rad(rng.uniform(-rotation, rotation, count))
    factors = np.exp(rng.uniform(-np.log(scaling), np.log(scaling), count))
    return np.stack(
        [about_centre(angle, factor, shape) for angle, factor in zip(angles, factors, strict=True)]
    )


def about_centre(angle: float, factor: float, shape) -> np.ndarray:
    """float64 [2, 3]: turns by `angle` radians, counter-clockwise to the eye, and magnifies by `factor`."""
    y, x = (shape[1] - 1) / 2, (shape[2] - 1) / 2
    c, s = factor * np.cos(angle), factor * np.sin(angle)
    return np.array([[c, s, x - c * x - s * y], [-s, c, y + s * x - c * y]])


def warp(planes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A record [C, H, W], bilinear; outside its border it is mirrored."""
    import cv2

    return _each(planes, matrix, cv2.INTER_LINEAR, cv2.BORDER_REFLECT_101)


def warp_map(planes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A label map [1, H, W], nearest; outside its border it is VOID."""
    import cv2

    return _each(planes, matrix, cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)


def _each(planes: np.ndarray, matrix: np.ndarray, interpolation: int, border: int) -> np.ndarray:
    import cv2

    size = planes.shape[2], planes.shape[1]
    return np.stack(
        [cv2.warpAffine(plane, matrix, size, None, interpolation, border, VOID) for plane in planes]
    )
