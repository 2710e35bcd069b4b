"""Trained fully connected layers as convolutions, with fewer channels.

Long 2015 reads them as convolutions; Xie 2016, section 5.2.1, cuts their channels at random.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crnn.proto import pb
from crnn.proto.blobs import from_array, to_array


class Cut(NamedTuple):
    """Of the outputs of layer `name`, `channels` are kept; the layer is called `renamed`."""

    name: str
    renamed: str
    channels: int


def cut(weights: pb.NetParameter, cuts: Sequence[Cut], rng: np.random.Generator) -> None:
    """Turns the layers of `cuts`, which follow one another, into convolutions, in place.

    An InnerProduct over C maps of k x k becomes a k x k convolution; C is the number of outputs of the layer
    with weights before it. What is kept is drawn by `rng`; the next layer of `cuts` loses the same inputs.

    Raises ValueError for a layer that is not there, has too few outputs, or whose inputs are no square maps.
    """
    before, kept = 0, None  # outputs of the layer before, and which of them are left
    wanted = {one.name: one for one in cuts}
    missing = [name for name in wanted if name not in [layer.name for layer in weights.layer if layer.blobs]]
    if missing:
        raise ValueError(f"the weights have no layer {missing[0]!r} to cut")
    for layer in weights.layer:
        if not layer.blobs:
            continue
        matrix = to_array(layer.blobs[0])
        matrix = matrix.T if layer.inner_product_param.transpose else matrix
        outputs = matrix.shape[0] if matrix.ndim != 4 or matrix.shape[:2] != (1, 1) else matrix.shape[2]
        if layer.name in wanted:
            one = wanted[layer.name]
            matrix = _kernels(matrix.reshape(outputs, -1), before, layer.name)
            if not 1 <= one.channels <= outputs:
                raise ValueError(
                    f"layer {layer.name!r} has {outputs} outputs, wanted 1 to that, got {one.channels}"
                )
            matrix = matrix if kept is None else matrix[:, kept]
            kept = np.sort(rng.choice(outputs, one.channels, replace=False))
            blobs = [matrix[kept], *(to_array(blob).reshape(-1)[kept] for blob in layer.blobs[1:])]
            layer.name, layer.type = one.renamed, "Convolution"
            layer.ClearField("blobs")
            layer.blobs.extend(from_array(np.ascontiguousarray(blob)) for blob in blobs)
        before = outputs


def _kernels(matrix: np.ndarray, channels: int, name: str) -> np.ndarray:
    """[N, C·k·k] as [N, C, k, k]."""
    side = round((matrix.shape[1] / max(channels, 1)) ** 0.5)
    if not channels or channels * side * side != matrix.shape[1]:
        raise ValueError(
            f"layer {name!r} has {matrix.shape[1]} inputs, no square maps of {channels} channels"
        )
    return matrix.reshape(len(matrix), channels, side, side)
