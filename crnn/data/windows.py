"""Windows of images, R-CNN's training batches. Caffe: src/caffe/layers/window_data_layer.cpp."""

import os
from functools import partial
from typing import NamedTuple

import numpy as np

from crnn.data.bad_images import BadImages, good, policy_of, some_left
from crnn.data.image_list import read_image
from crnn.data.loader import Loader
from crnn.proto.blobs import read_mean


class Window(NamedTuple):
    """A box of an image, corners included, in pixels; label 0 is background."""

    image: str
    label: int
    x1: int
    y1: int
    x2: int
    y2: int


class WindowFile:
    """Foreground and background windows of a window file, by their overlap with an object.

    The file repeats, blanks between: `# index`, the image's path, channels, height, width, the number of its
    windows, and for each `class overlap x1 y1 x2 y2`. A window of an overlap of at least `fg_threshold` is
    foreground, of less than `bg_threshold` background, any other is left out.

    Raises OSError where there is no file, ValueError naming the image at which it goes wrong.
    """

    def __init__(self, source, fg_threshold: float, bg_threshold: float, root_folder: str = ""):
        self.source, self.foreground, self.background = os.fspath(source), [], []
        if not os.path.exists(self.source):
            raise FileNotFoundError(f"there is no window file {self.source}")
        with open(self.source, encoding="utf-8", errors="surrogateescape") as file:
            words = iter(file.read().split())
        for mark in words:
            try:
                self._read_image(mark, words, fg_threshold, bg_threshold, root_folder)
            except (StopIteration, ValueError) as error:
                reason = "it ends early" if isinstance(error, StopIteration) else error
                seen = len(self.foreground) + len(self.background)
                raise ValueError(f"{self.source} after {seen} windows: {reason}") from None
        if not self.foreground or not self.background:
            raise ValueError(
                f"{self.source} has {len(self.foreground)} foreground and {len(self.background)} background "
                "windows at these thresholds; each must have some"
            )

    def _read_image(self, mark, words, fg_threshold, bg_threshold, root_folder) -> None:
        if mark != "#":
            raise ValueError(f"expected '#', got {mark!r}")
        _index, path, channels = next(words), root_folder + next(words), int(next(words))
        if channels != 3:
            raise ValueError(f"{path} has {channels} channels; windows are read in colour, 3")
        _height, _width, count = [int(next(words)) for _ in range(3)]
        for _ in range(count):
            label, overlap = int(next(words)), float(next(words))
            corners = [int(next(words)) for _ in range(4)]
            if overlap >= fg_threshold:
                if label < 1:
                    raise ValueError(f"{path}: a foreground window has label {label}; classes begin at 1")
                self.foreground.append(Window(path, label, *corners))
            elif overlap < bg_threshold:
                self.background.append(Window(path, 0, *corners))


class Warp(NamedTuple):
    """Where a window lies in its image, and in the crop: `size` (width, height) at `left`, `top`."""

    x1: int
    y1: int
    x2: int
    y2: int
    size: tuple[int, int]
    left: int
    top: int


def warp(window: Window, image_size, crop: int, context: int, square: bool, mirrored: bool) -> Warp:
    """The part of an image (height, width) that is resized into a crop×crop window.

    `context` pixels around the window, or `square`, enlarge it; what lies beyond the image stays empty.
    Raises ValueError where nothing of the window lies in the image.
    """
    _, _, x1, y1, x2, y2 = window
    size, left, top = (crop, crop), 0, 0
    if context or square:
        x1, x2, y1, y2 = _expand(window, crop, context, square)
        (x1, x2, before, after, width), (y1, y2, above, _, height) = (
            _clip(x1, x2, image_size[1], crop),
            _clip(y1, y2, image_size[0], crop),
        )
        left, top = after if mirrored else before, above
        size = min(width, crop - left), min(height, crop - top)  # rounding may have made them too large
    if not (0 <= x1 <= x2 < image_size[1] and 0 <= y1 <= y2 < image_size[0] and min(size) > 0):
        raise ValueError(
            f"{window.image}: window {window[2:]} is not in the image, {image_size[::-1]} pixels"
        )
    return Warp(x1, y1, x2, y2, size, left, top)


def _expand(window: Window, crop: int, context: int, square: bool) -> list[int]:
    """x1, x2, y1, y2 of the region that is `context` pixels larger on each side once it is warped."""
    scale = np.float32(crop) / np.float32(crop - 2 * context)
    halves = [np.float32((b - a + 1) / 2) for a, b in ((window.x1, window.x2), (window.y1, window.y2))]
    centres = [np.float32(a) + half for a, half in zip((window.x1, window.y1), halves, strict=True)]
    if square:
        halves = [max(halves)] * 2
    return [
        _round(centre + sign * half * scale)
        for centre, half in zip(centres, halves, strict=True)
        for sign in (-1, 1)
    ]


def _clip(a: int, b: int, size: int, crop: int) -> tuple[int, int, int, int, int]:
    """(first, last) inside the image; then in the crop's pixels empty before, empty after, extent."""
    before, after, scale = max(0, -a), max(0, b - size + 1), np.float32(crop) / np.float32(b - a + 1)
    a, b = a + before, b - after
    return a, b, _round(before * scale), _round(after * scale), _round((b - a + 1) * scale)


def _round(x) -> int:
    """Half away from zero, as C's round."""
    return int(np.copysign(np.floor(np.abs(x) + np.float32(0.5)), x))


class WindowLoader(Loader):
    """Batches (data float32 [N, 3, crop, crop], label float32 [N]): background windows, then foreground.

    p: a WindowDataParameter.    transform: a TransformationParameter: crop_size, mirror, mean.
    """

    def __init__(self, p, transform, seed=None):
        super().__init__(p.batch_size, seed)
        if not transform.crop_size:
            raise ValueError("transform_param.crop_size is missing: the size that windows are warped to")
        if transform.crop_size <= 2 * p.context_pad:
            raise ValueError(f"context_pad {p.context_pad} leaves nothing of crop_size {transform.crop_size}")
        if p.crop_mode not in ("warp", "square"):
            raise ValueError(f"crop_mode must be 'warp' or 'square', got {p.crop_mode!r}")
        self.bad_images = BadImages(policy_of(transform))
        self.windows = WindowFile(p.source, p.fg_threshold, p.bg_threshold, p.root_folder)
        self._cut = _Cut(p, transform)
        self._foreground = int(np.float32(p.batch_size) * np.float32(p.fg_fraction))
        crop = transform.crop_size
        self.top_shapes = [(p.batch_size, 3, crop, crop), (p.batch_size,)]

    def _batches(self):
        kinds = [self.windows.background] * (self.batch_size - self._foreground)
        kinds += [self.windows.foreground] * self._foreground
        return _batches(kinds, self._cut, self.bad_images.policy, self.seed, self.position, self.share)


def _batches(kinds, cut, policy, seed, position, share):
    """(position after it, problems, data, label) of each batch; no method, so that its thread keeps no loader
    alive. A bad image's window is substituted by the next one of its kind."""

    def read(kind, mirrored: bool, top: np.ndarray, number: int) -> int:
        cut(kind[number], mirrored, top)
        return kind[number].label

    while True:
        rng = np.random.default_rng([seed, position + share.rank * len(kinds)])
        data, rows = np.zeros((len(kinds), 3, cut.crop, cut.crop), np.float32), []
        for kind, top in zip(kinds, data, strict=True):
            number, mirrored = int(rng.integers(len(kind))), cut.mirror and bool(rng.integers(2))
            # An image has many windows: all may have to be looked at.
            rows.append(good(partial(read, kind, mirrored, top), number, kind.__len__, policy, len(kind)))
        position += share.ranks * len(kinds)
        left = some_left(rows)
        labels = np.array([rows[i].record for i in left], np.float32)
        problems = tuple(row.problem for row in rows if row.problem)
        yield position, problems, data if len(left) == len(kinds) else data[left], labels


class _Cut:
    """Reads a window's image and writes the warped window, less its mean and scaled, into a top."""

    def __init__(self, p, transform):
        self.crop, self.mirror = transform.crop_size, transform.mirror
        self.context, self.square = p.context_pad, p.crop_mode == "square"
        # Old nets give the scale here, and the upgrade of V1 nets moves it to transform_param.
        self.scale = np.float32(p.scale if p.HasField("scale") else transform.scale)
        self.mean = _mean(transform)
        self.images: dict[str, np.ndarray] | None = {} if p.cache_images else None

    def read(self, path: str) -> np.ndarray:
        if self.images is None:
            return read_image(path, True)
        if path not in self.images:
            self.images[path] = read_image(path, True)
        return self.images[path]

    def __call__(self, window: Window, mirrored: bool, top: np.ndarray) -> None:
        import cv2

        image = self.read(window.image)
        w = warp(window, image.shape[:2], self.crop, self.context, self.square, mirrored)
        part = cv2.resize(image[w.y1 : w.y2 + 1, w.x1 : w.x2 + 1], w.size)
        if mirrored:
            part = part[:, ::-1]
        place = np.s_[:, w.top : w.top + w.size[1], w.left : w.left + w.size[0]]
        top[place] = (part.transpose(2, 0, 1) - self.mean[place]) * self.scale


def _mean(transform) -> np.ndarray:
    """float32 [3, crop, crop]: the centre of the mean image, or the mean values."""
    crop = transform.crop_size
    if transform.HasField("mean_file") and transform.mean_value:
        raise ValueError("mean_file and mean_value cannot both be given: remove one")
    if transform.HasField("mean_file"):
        mean = read_mean(transform.mean_file)
        if mean.shape[0] != 3 or min(mean.shape[1:]) < crop:
            raise ValueError(
                f"the mean {transform.mean_file} is {mean.shape}, too small for a {crop} crop of 3"
            )
        start = (mean.shape[2] - crop) // 2  # Caffe takes the width's offset for the rows too
        return mean[:, start : start + crop, start : start + crop]
    values = list(transform.mean_value) or [0.0]
    if len(values) not in (1, 3):
        raise ValueError(f"{len(values)} mean_value for 3 channels: give 1 or 3")
    return np.broadcast_to(np.array(values, np.float32)[:, None, None], (3, crop, crop))
