"""InnerProduct, the fully connected layer. Caffe: src/caffe/layers/inner_product_layer.cpp."""

import math

import torch

from crnn.ops import inner_product

from .base import Layer, canonical_axis, register


@register("InnerProduct")
class InnerProduct(Layer):
    """y = W x + b, x being all axes from `axis` on as one vector (C, H, W order).

    bottom[0]: [..., K axes].    top[0]: [..., num_output].
    blobs:     W [num_output, K] ([K, num_output] with `transpose`), b [num_output].
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.inner_product_param, bottom_shapes[0]
        if p.num_output < 1:
            raise ValueError("inner_product_param.num_output must be at least 1")
        self.axis, self.transpose = canonical_axis(p.axis, len(shape)), p.transpose
        self.inputs = math.prod(shape[self.axis :])
        self.add_blob(
            (self.inputs, p.num_output) if p.transpose else (p.num_output, self.inputs), p.weight_filler
        )
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)
        self.top_shapes = [(*shape[: self.axis], p.num_output)]

    def forward(self, x):
        vectors = x.flatten(self.axis)
        if vectors.shape[-1] != self.inputs:
            raise ValueError(
                f"has weights for {self.inputs} inputs, the bottom {list(x.shape)} gives {vectors.shape[-1]}"
            )
        weight, *bias = self.blobs
        if not self.transpose:
            return (inner_product(vectors, weight, *bias),)
        y = torch.matmul(vectors, weight)
        return (y + bias[0] if bias else y,)
