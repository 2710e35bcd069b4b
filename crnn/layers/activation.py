"""ReLU, Sigmoid, TanH: element by element. Caffe: src/caffe/layers/{relu,sigmoid,tanh}_layer.cpp."""

import torch
import torch.nn.functional as F

from .base import Layer, register


class Activation(Layer):
    """One value for one value.    bottom[0], top[0]: any shape, the same."""

    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = [tuple(bottom_shapes[0])]


@register("ReLU")
class ReLU(Activation):
    """max(x, 0) + negative_slope · min(x, 0); at 0 the gradient is negative_slope's.

    bottom[0], top[0]: any shape, the same.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.slope = param.relu_param.negative_slope

    def forward(self, x):
        return (F.leaky_relu(x, self.slope) if self.slope else F.relu(x),)


@register("Sigmoid")
class Sigmoid(Activation):
    """1 / (1 + exp(−x)).    bottom[0], top[0]: any shape, the same."""

    def forward(self, x):
        return (torch.sigmoid(x),)


@register("TanH")
class TanH(Activation):
    """tanh(x).    bottom[0], top[0]: any shape, the same."""

    def forward(self, x):
        return (torch.tanh(x),)
