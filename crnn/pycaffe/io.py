"""Images and arrays to and from Caffe's messages, and the preparation of a net's input.

Caffe: python/caffe/io.py. Images are float32 [H, W, K] in 0 .. 1, colour as RGB.
"""

from pathlib import Path

import numpy as np

from crnn.data import datum as records
from crnn.proto import pb
from crnn.proto.blobs import from_array, to_array

from .proto import caffe_pb2 as caffe_pb2  # scripts look for it here too

GREY = (0.2125, 0.7154, 0.0721)  # of R, G, B: skimage's, which Caffe used


def blobproto_to_array(blob, return_diff: bool = False) -> np.ndarray:
    """A BlobProto's values, or its diff, in float64. Raises ValueError where they do not fill its shape."""
    return to_array(blob, "diff" if return_diff else "data").astype(np.float64)


def array_to_blobproto(arr, diff=None):
    """A BlobProto of floats."""
    return from_array(np.asarray(arr, np.float32), None if diff is None else np.asarray(diff, np.float32))


def arraylist_to_blobprotovector_str(arraylist) -> bytes:
    return pb.BlobProtoVector(blobs=[array_to_blobproto(arr) for arr in arraylist]).SerializeToString()


def blobprotovector_str_to_arraylist(string: bytes) -> list[np.ndarray]:
    return [blobproto_to_array(blob) for blob in pb.BlobProtoVector.FromString(string).blobs]


def array_to_datum(arr, label: int | None = None):
    """A Datum of pixels [C, H, W]: uint8 as bytes, everything else as floats."""
    if arr.ndim != 3:
        raise ValueError(f"a Datum holds [C, H, W], got shape {arr.shape}")
    datum = pb.Datum(**dict(zip(("channels", "height", "width"), arr.shape, strict=True)))
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).flat)
    if label is not None:
        datum.label = label
    return datum


def datum_to_array(datum) -> np.ndarray:
    """The pixels [C, H, W] of a Datum, an image file in it decoded; bytes, or float_data in float64. Raises
    ValueError where it is damaged."""
    pixels = records.decode(datum.SerializeToString())[0]
    return pixels.copy() if pixels.dtype == np.uint8 else pixels.astype(np.float64)


class Transformer:
    """Images to what a net's inputs take, step by step, and back.

        transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
        transformer.set_transpose("data", (2, 0, 1))
        net.blobs["data"].data[...] = transformer.preprocess("data", caffe.io.load_image("cat.jpg"))

    The order is resize, transpose, channel_swap, raw_scale, mean, input_scale; a step that is not set is left
    out. Its methods raise ValueError for an input that is not there or a setting that does not fit it.
    """

    def __init__(self, inputs):
        """`inputs`: name -> shape [N, K, H, W]."""
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose, self.channel_swap, self.raw_scale = {}, {}, {}
        self.mean, self.input_scale = {}, {}

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise ValueError(f"{in_!r} is not one of the net's inputs {sorted(self.inputs)}")
        return self.inputs[in_]

    def preprocess(self, in_: str, data) -> np.ndarray:
        """float32 [K, h, w] of an image [H, W, K]."""
        size = self._shape(in_)[2:]
        image = np.array(data, np.float32)
        if image.shape[:2] != size:
            image = resize_image(image, size)
        if in_ in self.transpose:
            image = image.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            image = image[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            image = image * self.raw_scale[in_]
        if in_ in self.mean:
            image = image - self.mean[in_]
        if in_ in self.input_scale:
            image = image * self.input_scale[in_]
        return np.asarray(image, np.float32)

    def deprocess(self, in_: str, data) -> np.ndarray:
        """An image again of what `preprocess` made; its size stays."""
        self._shape(in_)
        given = np.asarray(data)
        image = given.squeeze()
        if in_ in self.input_scale:
            image = image / self.input_scale[in_]
        if in_ in self.mean:
            image = image + self.mean[in_]
        if in_ in self.raw_scale:
            image = image / self.raw_scale[in_]
        if in_ in self.channel_swap:
            image = image[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            image = image.transpose(np.argsort(self.transpose[in_]))
        return image.astype(given.dtype if given.dtype.kind == "f" else image.dtype)

    def set_transpose(self, in_: str, order) -> None:
        """The order of axes: (2, 0, 1) makes [K, H, W] of [H, W, K]."""
        axes = len(self._shape(in_)) - 1
        if len(order) != axes:
            raise ValueError(f"transpose of {in_!r} needs {axes} axes, got {tuple(order)}")
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order) -> None:
        """The order of channels, after the transpose: (2, 1, 0) makes BGR of RGB."""
        channels = self._shape(in_)[1]
        if len(order) != channels:
            raise ValueError(f"channel_swap of {in_!r} needs {channels} channels, got {tuple(order)}")
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor before the mean: 255, where a net was trained on 0 .. 255."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean) -> None:
        """What is subtracted: [K], [H, W] or [K, H, W]; an image of another size is resized."""
        _, channels, *size = self._shape(in_)
        mean = np.asarray(mean)
        if mean.ndim == 1:
            if len(mean) != channels:
                raise ValueError(f"mean of {in_!r} needs {channels} channels, got {len(mean)}")
            mean = mean[:, None, None]
        elif mean.ndim not in (2, 3):
            raise ValueError(f"mean of {in_!r} needs shape [K], [H, W] or [K, H, W], got {list(mean.shape)}")
        elif mean.shape[-2:] != tuple(size):
            image = mean if mean.ndim == 3 else mean[None]
            mean = resize_image(image.transpose(1, 2, 0), size).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor after the mean."""
        self._shape(in_)
        self.input_scale[in_] = scale


def load_image(filename, color: bool = True) -> np.ndarray:
    """float32 [H, W, 3] RGB in 0 .. 1, or with color=False [H, W, 1]; transparency is dropped.

    Raises OSError, ValueError where the file is no image.
    """
    try:
        image = records.decode_image(Path(filename).read_bytes(), None)
    except ValueError as error:
        raise ValueError(f"{filename}: {error}") from None
    image = image.astype(np.float32) / 255
    grey = image.ndim == 2
    if not grey:
        image = image[:, :, 2::-1]  # B, G, R, maybe transparency
    if color:
        return np.repeat(image[:, :, None], 3, 2) if grey else np.ascontiguousarray(image)
    return (image if grey else image @ np.array(GREY, np.float32))[:, :, None]


def resize_image(im, new_dims, interp_order: int = 1) -> np.ndarray:
    """An image [H, W, K] at size `new_dims` (h, w), float32: interp_order 1 linear, 0 nearest.

    As the skimage and scipy of Caffe's time. K of 1 or 3: pixel centres are mapped, nothing is smoothed when
    it shrinks, and beyond the border lies the image's minimum. Any other K: corners are mapped to corners.
    """
    if interp_order not in (0, 1):
        raise ValueError(f"resize_image: interp_order is 0 (nearest) or 1 (linear), got {interp_order}")
    im = np.asarray(im, np.float64)
    centred, low = im.shape[-1] in (1, 3), im.min()
    rows = _weights(im.shape[0], int(new_dims[0]), interp_order, centred)
    columns = _weights(im.shape[1], int(new_dims[1]), interp_order, centred)
    resized = np.einsum("ih,hwk,jw->ijk", rows, im - low, columns, optimize=True)
    return (resized + low).astype(np.float32)


def _weights(size: int, wanted: int, order: int, centred: bool) -> np.ndarray:
    """[wanted, size]: how much of each pixel of a line goes into each of the new line."""
    i = np.arange(wanted)
    at = (i + 0.5) * size / wanted - 0.5 if centred else i * ((size - 1) / max(wanted - 1, 1))
    if order == 0:
        return np.eye(size)[np.floor(at + 0.5).astype(int).clip(0, size - 1)]
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(size)))


def oversample(images, crop_dims) -> np.ndarray:
    """[10 N, h, w, K] of N images [H, W, K]: each one's four corners, its centre, and all five mirrored."""
    H, W = images[0].shape[:2]
    h, w = map(int, crop_dims)
    if h > H or w > W:
        raise ValueError(f"oversample: crops of {h} x {w} do not fit into images of {H} x {W}")
    corners = [(y, x) for y in (0, H - h) for x in (0, W - w)]
    places = [*corners, (int(H / 2 - h / 2), int(W / 2 - w / 2))]
    crops = []
    for image in images:
        five = [image[y : y + h, x : x + w] for y, x in places]
        crops += five + [crop[:, ::-1] for crop in five]
    return np.array(crops, np.float32)
