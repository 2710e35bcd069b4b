"""The registry: one class with its type name is a new layer."""

import pytest
import torch

from crnn.layers import TYPES, Layer, build, register
from crnn.net.net import Net
from crnn.proto import pb

DOUBLED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 } } }
layer { name: "twice" type: "Double" bottom: "x" top: "y" }
"""


@pytest.fixture
def double(monkeypatch):
    monkeypatch.setattr("crnn.layers.base.TYPES", dict(TYPES))

    @register("Double")
    class Double(Layer):
        def __init__(self, param, bottom_shapes):
            super().__init__(param, bottom_shapes)
            self.top_shapes = list(bottom_shapes)

        def forward(self, x):
            return (2 * x,)

    return Double


def test_a_registered_class_is_a_layer_type(double):
    assert Net(DOUBLED)(torch.ones(3))["y"].tolist() == [2, 2, 2]
    with pytest.raises(ValueError, match="layer type 'Double' is registered by"):
        register("Double")(double)


def test_an_unknown_type_names_the_nearest_or_all():
    with pytest.raises(ValueError, match="unknown layer type 'Poolling'; did you mean 'Pooling'"):
        build(pb.LayerParameter(type="Poolling"), [(1,)])
    with pytest.raises(ValueError, match=r"'PriorBox'; a fork of Caffe has it \(SSD, weiliu89/caffe\)"):
        build(pb.LayerParameter(type="PriorBox"), [(1,)])
    with pytest.raises(ValueError, match="known types: AbsVal, Accuracy, ArgMax, "):
        build(pb.LayerParameter(type="xyzzy"), [(1,)])


def test_a_constructor_counts_bottoms_and_tops():
    param = pb.LayerParameter(type="ReLU", top=["y"])
    with pytest.raises(ValueError, match="takes 1 bottom, got 2"):
        build(param, [(1,), (1,)])
    with pytest.raises(ValueError, match="takes 1 top, got 0"):
        build(pb.LayerParameter(type="ReLU"), [(1,)])
    with pytest.raises(ValueError, match="takes 1 to 2 tops, got 3"):
        build(pb.LayerParameter(type="Pooling", top=["a", "b", "c"]), [(1, 1, 2, 2)])
