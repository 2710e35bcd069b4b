"""Embed and Parameter: blobs that are looked up, or given out whole.

Caffe: src/caffe/layers/{embed,parameter}_layer.cpp.
"""

import torch.nn.functional as F

from .base import Layer, check_indices, register


@register("Embed")
class Embed(Layer):
    """y = W[i] + b for each index i.

    bottom[0]: any shape, whole numbers in 0..input_dim−1.    top[0]: that shape and an axis of num_output.
    blobs:     W [input_dim, num_output], b [num_output].
    """

    indices = (0,)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.embed_param
        if p.num_output < 1 or p.input_dim < 1:
            raise ValueError("embed_param.num_output and input_dim must be at least 1")
        self.add_blob((p.input_dim, p.num_output), p.weight_filler)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)
        self.top_shapes = [(*bottom_shapes[0], p.num_output)]

    def forward(self, x):
        weight, *bias = self.blobs
        check_indices("index", x, weight.shape[0], "rows")
        y = F.embedding(x.long(), weight)
        return (y + bias[0] if bias else y,)


@register("Parameter")
class Parameter(Layer):
    """A blob of its own as a top: learned, and shared by name like any other.

    top[0]: parameter_param.shape.    blobs: the same, zeros at the start.
    """

    bottoms = (0, 0)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.add_blob(tuple(param.parameter_param.shape.dim))
        self.top_shapes = [tuple(self.blobs[0].shape)]

    def forward(self):
        return (self.blobs[0],)
