"""Classifier: a net that takes images. Caffe: python/caffe/classifier.py."""

import numpy as np

from crnn.proto import pb

from . import io
from .net import Net


def image_transformer(net: Net, mean, input_scale, raw_scale, channel_swap) -> io.Transformer:
    """What prepares an image [H, W, K] for the net's first input."""
    name = net.inputs[0]
    transformer = io.Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


class Classifier(Net):
    """A deploy net whose first input is an image and whose first output holds the classes.

    image_dims: (H, W) that images are resized to before crops of the input's size; by default that size.
    mean, input_scale, raw_scale, channel_swap: see io.Transformer.
    """

    def __init__(
        self,
        model_file,
        pretrained_file,
        image_dims=None,
        mean=None,
        input_scale=None,
        raw_scale=None,
        channel_swap=None,
    ):
        super().__init__(model_file, pb.TEST, weights=pretrained_file)
        self.transformer = image_transformer(self, mean, input_scale, raw_scale, channel_swap)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)

    def predict(self, inputs, oversample: bool = True) -> np.ndarray:
        """[N, classes] of N images [H, W, K]: the mean over ten crops each, or of the centre alone."""
        images = [io.resize_image(image, self.image_dims) for image in inputs]
        if oversample:
            crops = io.oversample(images, self.crop_dims)
        else:
            top, left = ((self.image_dims - self.crop_dims) / 2).astype(int)
            height, width = self.crop_dims
            crops = [image[top : top + height, left : left + width] for image in images]
        name = self.inputs[0]
        prepared = np.array([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = self.forward_all(**{name: prepared})[self.outputs[0]]
        if oversample:
            predictions = predictions.reshape(len(predictions) // 10, 10, -1).mean(1)
        return predictions
