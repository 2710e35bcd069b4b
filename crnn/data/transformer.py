"""DataTransformer: crop, mirror, mean and scale of `transform_param`; the only preprocessing there is.

Caffe: src/caffe/data_transformer.cpp. A value is (pixel - mean at its place in the whole record) * scale;
crop and mirror only choose and move values. Rotation and scaling (ours) come before them.
"""

import copy
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from crnn.data import warp
from crnn.proto import pb
from crnn.proto.blobs import read_mean

VIEWS = 10


class Draw(NamedTuple):
    """How each record of a batch is seen: (mirrored, row, column) of its crop, None for the centre of all;
    before that the affine maps [B, 2, 3] it is warped by, None for none."""

    places: list[tuple[bool, int, int]] | None = None
    warps: np.ndarray | None = None

    def of(self, records: slice) -> "Draw":
        return Draw(*(part if part is None else part[records] for part in self))


class Transformer:
    """Turns records [C, H, W] into what the net sees, float32 [C, h, w] (`top_shape`).

    Raises ValueError where `param` does not fit the records, OSError where the mean file cannot be read.
    """

    def __init__(self, param, phase: int, shape: tuple[int, int, int]):
        self.shape = C, H, W = tuple(shape)
        crop = param.crop_size
        if param.train_views not in (1, VIEWS):
            raise ValueError(f"train_views must be 1 or {VIEWS}, got {param.train_views}")
        self.views = param.train_views == VIEWS and phase == pb.TRAIN
        if self.views and param.mirror:
            raise ValueError(f"train_views: {VIEWS} holds the mirrored views: remove mirror")
        if crop > min(H, W):
            raise ValueError(f"crop_size {crop} is larger than the records, {H} x {W}")
        if param.rotation < 0 or param.scaling < 1:
            raise ValueError(
                f"rotation must be at least 0, scaling at least 1: got {param.rotation:g}, {param.scaling:g}"
            )
        self.warps = phase == pb.TRAIN and (param.rotation > 0 or param.scaling > 1)
        self.rotation, self.scaling = param.rotation, param.scaling
        self.top_shape = (C, crop or H, crop or W)
        self.mirrors = param.mirror  # in any phase, as in Caffe
        self.crops = crop > 0 and phase == pb.TRAIN
        self.scale = np.float32(param.scale)
        self.mean = _mean(param, self.shape)

    def __call__(self, images: np.ndarray, rng: np.random.Generator, turns=None) -> np.ndarray:
        """float32 [B, C, h, w] of records [B, C, H, W]: in TRAIN cut at random places, in TEST the centre.

        With train_views: 10, record b gives view `turns[b]` mod 10 (its caller counts the passes).
        """
        return self.apply(images, self.draw(len(images), rng, turns))

    def draw(self, count: int, rng: np.random.Generator, turns=None) -> Draw:
        """What `__call__` draws for `count` records."""
        if self.views and turns is None:
            raise ValueError("train_views works with Data layers only: remove it")
        places = None
        if self.views:
            places = [self._place(turn % VIEWS) for turn in turns]
        elif self.mirrors or self.crops:
            # An image draws in Caffe's order: mirrored or not, then the row, then the column.
            first, last = ((0, 0), self._last()) if self.crops else (self._centre(), self._centre())
            places = rng.integers((0, *first), (int(self.mirrors), *last), (count, 3), endpoint=True).tolist()
        warps = warp.draw(rng, count, self.shape, self.rotation, self.scaling) if self.warps else None
        return Draw(places, warps)

    def of_size(self, shape: tuple[int, int, int]) -> "Transformer":
        """The same for records of another size; with crop_size, and a mean that is a value a channel.

        Raises ValueError where crop_size is larger than they are.
        """
        other = copy.copy(self)
        other.shape = shape
        if min(other._last()) < 0:
            raise ValueError(f"crop_size {self.top_shape[1]} is larger than it is, {shape[1]} x {shape[2]}")
        if self.mean is not None:
            other.mean = np.broadcast_to(self.mean_values, shape)
        return other

    def apply(self, images: np.ndarray, draw: Draw) -> np.ndarray:
        """float32 [B, C, h, w] of records [B, C, H, W] as drawn."""
        top = self._empty_top(images)
        if draw.warps is not None:
            images = [warp.warp(image, matrix) for image, matrix in zip(images, draw.warps, strict=True)]
        if draw.places is None and draw.warps is None:
            return self._cut(images, False, *self._centre(), top)
        places = self.places(draw, len(top))
        for image, (mirrored, y, x), out in zip(images, places, top, strict=True):
            self._cut(image, mirrored, y, x, out)
        return top

    def places(self, draw: Draw, count: int) -> list[tuple[bool, int, int]]:
        """(mirrored, row, column) of each record's crop."""
        return draw.places or [(False, *self._centre())] * count

    def see(self, image: np.ndarray, place: tuple[bool, int, int], matrix, out: np.ndarray) -> None:
        """Fills `out` [C, h, w], contiguous, from a record [C, H, W]: uint8 with its pixels, float32 as
        `apply` would.

        matrix: of Draw.warps, or None.
        """
        if matrix is not None:
            image = warp.warp(image, matrix)
        if out.dtype == np.float32:
            self._cut(_planes(image), *place, out)
        else:
            _cut_pixels(image, *place, out)

    @property
    def mean_values(self) -> np.ndarray | None:
        """The mean, float32 [C, H, W], or [C, 1, 1] where it is a value a channel."""
        if self.mean is None or any(self.mean.strides[1:]):
            return self.mean
        return self.mean[:, :1, :1].copy()

    def apply_to_maps(self, maps: np.ndarray, draw: Draw) -> np.ndarray:
        """uint8 [B, 1, h, w] of the records' label maps [B, 1, H, W], seen as the records themselves."""
        if draw.warps is not None:
            maps = [warp.warp_map(labels, matrix) for labels, matrix in zip(maps, draw.warps, strict=True)]
        places = self.places(draw, len(maps))
        seen = [self._window(labels, *place) for labels, place in zip(maps, places, strict=True)]
        return np.stack(seen) if seen else np.empty((0, 1, *self.top_shape[1:]), np.uint8)

    def view(self, images: np.ndarray | list[np.ndarray], v: int) -> np.ndarray:
        """View v of ten, float32 [B, C, h, w]: the corners TL, TR, BL, BR, the centre; then these mirrored.

        pycaffe's order (python/caffe/io.py, oversample). Without crop_size the five places are one. Of a list
        each image [C, H, W] is seen in its own size (`of_size`).
        """
        if isinstance(images, list):
            return np.concatenate([self.of_size(one.shape).view(one[None], v) for one in images])
        return self._cut(images, *self._place(v), self._empty_top(images))

    def crop(self, images: np.ndarray | list[np.ndarray], v: int) -> np.ndarray:
        """The pixels that view v is made of, as they are in the records: [B, C, h, w], for the eye."""
        if isinstance(images, list):
            return np.concatenate([self.of_size(one.shape).crop(one[None], v) for one in images])
        return self._window(images, *self._place(v))

    def _window(self, images: np.ndarray, mirrored: bool, y: int, x: int) -> np.ndarray:
        """The pixels [..., h, w] at one place of [..., H, W], a view."""
        cut = images[..., y : y + self.top_shape[1], x : x + self.top_shape[2]]
        return cut[..., ::-1] if mirrored else cut

    def _place(self, v: int) -> tuple[bool, int, int]:
        """View v: whether it is mirrored, and its top left pixel."""
        bottom, right = self._last()
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right), self._centre()]
        return v >= VIEWS // 2, *places[v % 5]

    def _last(self) -> tuple[int, int]:
        """The bottom right place of a crop."""
        return self.shape[1] - self.top_shape[1], self.shape[2] - self.top_shape[2]

    def _centre(self) -> tuple[int, int]:
        last_y, last_x = self._last()
        return last_y // 2, last_x // 2

    def _empty_top(self, images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"records are {_x(images.shape[1:])}, the transformer was made for {_x(self.shape)}"
            )
        return np.empty((len(images), *self.top_shape), np.float32)

    def _cut(self, images: np.ndarray, mirrored: bool, y: int, x: int, top: np.ndarray) -> np.ndarray:
        """Fills and returns `top` [..., C, h, w] from `images` [..., C, H, W] at one place."""
        window = np.s_[..., y : y + self.top_shape[1], x : x + self.top_shape[2]]
        target = top[..., ::-1] if mirrored else top
        if self.mean is None:
            target[...] = images[window]
        else:
            np.subtract(images[window], self.mean[window], out=target)
        if self.scale != 1:
            top *= self.scale
        return top


def _cut_pixels(image: np.ndarray, mirrored: bool, y: int, x: int, out: np.ndarray) -> None:
    """Fills `out` [C, h, w] with uint8 pixels by OpenCV's vector code: numpy takes five times as long to
    mirror, and to part interleaved colours."""
    import cv2

    if _interleaved(image):
        cutter((mirrored, y, x), out)(image.transpose(1, 2, 0))
        return
    window = image[:, y : y + out.shape[1], x : x + out.shape[2]]
    if mirrored:
        for plane, target in zip(window, out, strict=True):
            cv2.flip(plane, 1, target)
    else:
        out[...] = window


def cutter(place: tuple[bool, int, int], out: np.ndarray) -> Callable[[np.ndarray], None]:
    """A function that fills `out` uint8 [C, h, w], contiguous, from an image [H, W] or [H, W, C] as OpenCV
    decodes it: all that can be done before the image is there has been done.
    """
    import cv2

    mirrored, y, x = place
    C, h, w = out.shape
    window, planes, rows = np.s_[y : y + h, x : x + w], list(out), out.reshape(C * h, w)

    def cut(image: np.ndarray) -> None:
        cv2.split(image[window], planes)
        if mirrored:
            cv2.flip(rows, 1, rows)  # in place: they are in the cache, another image would not be

    return cut


def _planes(image: np.ndarray) -> np.ndarray:
    """An image [C, H, W] with its colours parted."""
    if _interleaved(image):
        parted = np.empty(image.shape, np.uint8)
        _cut_pixels(image, False, 0, 0, parted)
        return parted
    return image


def _interleaved(image: np.ndarray) -> bool:
    """Whether an image [C, H, W] lies in memory as OpenCV decodes, [H, W, C]."""
    return 1 < len(image) <= 4 and image.strides[0] == 1 and image.strides[2] == len(image)


def _mean(param, shape: tuple[int, int, int]) -> np.ndarray | None:
    """float32, broadcast to the records' shape [C, H, W], or None."""
    if param.HasField("mean_file") and param.mean_value:
        raise ValueError("mean_file and mean_value cannot both be given: remove one")
    if param.HasField("mean_file"):
        if not os.path.exists(param.mean_file):
            raise FileNotFoundError(f"there is no mean_file {param.mean_file}: make it with `crnn data mean`")
        mean = read_mean(param.mean_file)
        if mean.shape != shape:
            raise ValueError(f"the mean {param.mean_file} is {_x(mean.shape)}, the records are {_x(shape)}")
        return mean
    if not param.mean_value:
        return None
    if len(param.mean_value) not in (1, shape[0]):
        raise ValueError(f"{len(param.mean_value)} mean_value for {shape[0]} channels: give 1 or {shape[0]}")
    return np.broadcast_to(np.array(param.mean_value, np.float32)[:, None, None], shape)


def _x(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
