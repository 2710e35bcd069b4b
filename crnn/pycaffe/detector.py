"""Detector: a net that classifies windows of images, as R-CNN does. Caffe: python/caffe/detector.py."""

import importlib

import numpy as np

from crnn.proto import pb

from . import io
from .classifier import image_transformer
from .net import Net


class Detector(Net):
    """A deploy net whose first input is a window of an image and whose first output holds the scores.

    mean, input_scale, raw_scale, channel_swap: see io.Transformer.
    context_pad: so many pixels on each side of the net's input show what surrounds the window; beyond the
    image they show the mean.
    """

    def __init__(
        self,
        model_file,
        pretrained_file,
        mean=None,
        input_scale=None,
        raw_scale=None,
        channel_swap=None,
        context_pad=None,
    ):
        super().__init__(model_file, pb.TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.configure_crop(context_pad)

    def detect_windows(self, images_windows) -> list[dict]:
        """Scores of windows (ymin, xmin, ymax, xmax), given as pairs of an image's file name and its windows.

        Returns one {"window", "prediction", "filename"} a window, in their order.
        """
        found, crops = [], []
        for filename, windows in images_windows:
            image = io.load_image(filename)
            for window in windows:
                found.append({"window": window, "filename": filename})
                crops.append(self.crop(image, window))
        name = self.inputs[0]
        prepared = np.array([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(**{name: prepared})[self.outputs[0]]
        for detection, prediction in zip(found, predictions, strict=True):
            detection["prediction"] = prediction
        return found

    def detect_selective_search(self, image_fnames):
        """Scores of the windows that selective search proposes; wants Caffe's Matlab wrapper of it."""
        try:
            proposals = importlib.import_module("selective_search_ijcv_with_python")
        except ImportError:
            raise ValueError(
                "detect_selective_search needs the module selective_search_ijcv_with_python, which is not "
                "installed; give windows of your own to detect_windows"
            ) from None
        windows = proposals.get_windows(list(image_fnames), cmd="selective_search_rcnn")
        return self.detect_windows(zip(image_fnames, windows, strict=True))

    def configure_crop(self, context_pad) -> None:
        """Sets the context, and the mean in an image's own axes, channels and scale."""
        name, transformer = self.inputs[0], self.transformer
        channels, *size = self.blobs[name].shape[1:]
        self.crop_dims, self.context_pad = np.array([*size, channels]), context_pad
        mean = np.zeros((channels, *size), np.float32) + transformer.mean.get(name, 0)
        if name in transformer.channel_swap:
            mean = mean[np.argsort(transformer.channel_swap[name])]
        self.crop_mean = mean.transpose(1, 2, 0) / transformer.raw_scale.get(name, 1)

    def crop(self, im, window) -> np.ndarray:
        """The window of an image [H, W, K], with its context if there is to be any."""
        ymin, xmin, ymax, xmax = (int(value) for value in window)
        if not self.context_pad:
            return im[ymin:ymax, xmin:xmax]
        size = self.blobs[self.inputs[0]].width  # a square
        scale = size / (size - 2 * self.context_pad)
        result = np.array(self.crop_mean, np.float32)
        rows = _with_context(ymin, ymax, scale, size, im.shape[0])
        columns = _with_context(xmin, xmax, scale, size, im.shape[1])
        (y, y_end), (to_y, height) = rows
        (x, x_end), (to_x, width) = columns
        result[to_y : to_y + height, to_x : to_x + width] = io.resize_image(
            im[y:y_end, x:x_end], (height, width)
        )
        return result


def _with_context(low: int, high: int, scale: float, size: int, limit: int):
    """Along one axis: (start, end) in the image, and (start, length) in the net's input of `size` pixels."""
    half = (high - low + 1) / 2
    start, end = np.round(low + half - scale * half), np.round(low + half + scale * half)
    factor = size / (end - start + 1)
    pad = round(max(0, -start) * factor)
    start, end = np.clip([start, end], 0, limit)
    length = min(round((end - start + 1) * factor), size - pad)
    return (int(start), int(end)), (pad, length)
