"""Shapes without values: what Net::Reshape does in Caffe."""

import torch

from crnn.layers import build
from crnn.layers.python_layer import Python


def reshape_tops(net) -> None:
    """Gives the blobs of a LiveNet the shapes that follow from those of its sources' tops.

    A layer's constructor knows them: it runs once more, on torch's device "meta", where nothing is computed.
    Raises ValueError where a layer cannot take its bottoms.
    """
    for node in net.nodes:
        layer = node.layer
        if layer.source or not node.tops:
            continue
        shapes = [net.live[name].shape for name in node.bottoms]
        for name, shape in zip(node.tops, top_shapes(node, layer, shapes), strict=True):
            net.live[name].reshape(*shape)


def top_shapes(node, layer, shapes) -> list:
    if isinstance(layer, Python):
        for blob, shape in zip(layer.bottom, shapes, strict=True):
            blob.reshape(*shape)
        layer.user.reshape(layer.bottom, layer.top)
        return [blob.shape for blob in layer.top]
    try:
        with torch.device("meta"):
            probe = build(node.param, shapes)
    except ValueError as error:
        raise ValueError(f"layer {layer.name!r} ({layer.type}): {error}") from error
    for mine, wanted in zip(layer.blobs, probe.blobs, strict=True):
        if mine.shape != wanted.shape:
            raise ValueError(
                f"layer {layer.name!r} ({layer.type}): bottoms {[list(shape) for shape in shapes]} need a "
                f"blob {list(wanted.shape)}, it has {list(mine.shape)}"
            )
    return probe.top_shapes
