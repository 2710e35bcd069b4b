"""Layers out of a line of prototxt."""

import pytest

from crnn.layers import build
from crnn.proto import pb
from crnn.proto.text import parse


@pytest.fixture
def make():
    """make('type: "ReLU"', (2, 3)) -> the layer for these bottom shapes; one top and TRAIN unless told."""

    def make(text, *bottom_shapes, tops=1, phase=pb.TRAIN):
        param = parse(text, pb.LayerParameter).message
        param.name = "it"
        param.phase = phase
        param.bottom.extend(f"in{i}" for i in range(len(bottom_shapes)))
        param.top.extend(f"out{i}" for i in range(tops))
        return build(param, [tuple(shape) for shape in bottom_shapes])

    return make
