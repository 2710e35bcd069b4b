"""A user's image files as a net takes them: Caffe's preparation, by flags or by the net's own Data layer."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from crnn.data.datum import channels_first, decode_image
from crnn.data.transformer import Transformer
from crnn.experiments.evaluate import image_node
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import read_mean

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def files(names: list[str]) -> list[Path]:
    """The images, those of a folder by name. Raises OSError for what is not there or has none."""
    found = []
    for path in map(Path, names):
        if not path.is_dir():
            if not path.exists():
                raise FileNotFoundError(f"there is no image {path}")
            found.append(path)
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not inside:
            raise FileNotFoundError(f"folder {path} holds no images ({' '.join(SUFFIXES)})")
        found += inside
    return found


def preparation(net: Net, arguments) -> Transformer:
    """What turns an image [C, H, W] of `shape` into the net's input: its Data layer's, or by the flags."""
    layer = image_node(net).layer
    C, h, w = layer.top_shapes[0][1:]
    if C not in (1, 3):
        raise ValueError(f"{arguments.net} takes {C} channels; an image has 3 (BGR) or 1 (grey)")
    given = [flag for flag in ("mean", "scale", "resize") if getattr(arguments, flag) is not None]
    if hasattr(layer, "loader"):
        if given:
            raise ValueError(
                f"--{given[0]} is for a deploy net: here transform_param of {layer.name!r} decides"
            )
        return layer.loader.transformer
    param = pb.TransformationParameter(scale=1 if arguments.scale is None else arguments.scale)
    set_mean(param, arguments.mean)
    H, W = arguments.resize or default_size(param, h, w)
    if param.mean_file and arguments.resize and (mean := read_mean(param.mean_file)).shape[1:] != (H, W):
        raise ValueError(
            f"{param.mean_file} is {mean.shape[1]} x {mean.shape[2]}, --resize {H} x {W}: "
            "leave --resize out, or give the mean as B,G,R"
        )
    if (h, w) != (H, W) and (h != w or min(H, W) < h):
        raise ValueError(
            f"{arguments.net} takes {h} x {w} pixels, which {H} x {W} cannot be cropped to: see --resize"
        )
    param.crop_size = h if h == w else 0
    return Transformer(param, pb.TEST, (C, H, W))


def set_mean(param, mean: str | None) -> None:
    """--mean: numbers, or else a file."""
    try:
        param.mean_value.extend([float(part) for part in (mean or "").split(",") if part])
    except ValueError:
        param.mean_file = mean


def default_size(param, h: int, w: int) -> tuple[int, int]:
    """(H, W) before the crop: the mean image's, as the records had that it was made of; else Caffe's 256."""
    if param.mean_file:
        return read_mean(param.mean_file).shape[1:]
    return (256, 256) if h == w and 224 <= h <= 256 else (h, w)


class Batches:
    """The images that can be read, `size` files at a time: (paths, uint8 [n, C, H, W]), BGR or grey, warped.

    failed: how many cannot; each is told as it comes, on stderr.
    """

    def __init__(self, paths: list[Path], shape: tuple[int, int, int], size: int):
        self.paths, self.shape, self.size, self.failed = paths, shape, size, 0

    def __len__(self) -> int:
        return -(-len(self.paths) // self.size)

    def __iter__(self) -> Iterator[tuple[list[Path], np.ndarray]]:
        for start in range(0, len(self.paths), self.size):
            found = [(path, self._read(path)) for path in self.paths[start : start + self.size]]
            found = [(path, image) for path, image in found if image is not None]
            if found:
                paths, pixels = zip(*found, strict=True)
                yield list(paths), np.stack(pixels)

    def _read(self, path: Path) -> np.ndarray | None:
        try:
            return read(path, self.shape)
        except (ValueError, OSError) as error:
            self.failed += 1
            said = f"{path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            tqdm.write(f"left out: {said}", file=sys.stderr)
            return None


def read(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 [C, H, W], BGR or grey, warped. OSError, or ValueError naming the file if it is no image."""
    import cv2

    C, H, W = shape
    try:
        image = decode_image(path.read_bytes(), color=C == 3)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    try:
        return channels_first(cv2.resize(image, (W, H)))
    except cv2.error as error:
        if error.code != cv2.Error.StsNoMem:
            raise
        raise MemoryError(f"{path} at {H} x {W} pixels") from None
