"""Eltwise: several blobs into one, element by element. Caffe: src/caffe/layers/eltwise_layer.cpp."""

import torch

from .base import Layer, register


def check_one_shape(shapes) -> None:
    if any(tuple(shape) != tuple(shapes[0]) for shape in shapes):
        raise ValueError(f"needs bottoms of one shape, got {[list(shape) for shape in shapes]}")


@register("Eltwise")
class Eltwise(Layer):
    """Σ coeff_i · bottom[i] (SUM; coeff 1 by default), their product (PROD) or maximum (MAX).

    bottom[i], top[0]: any shape, the same.
    MAX gives a tie's gradient to bottom[1] of the first two, then to the earlier one.
    """

    bottoms = (2, None)
    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.eltwise_param
        self.operation, self.coeff = p.EltwiseOp.Name(p.operation), list(p.coeff)
        if self.coeff and self.operation != "SUM":
            raise ValueError("coeff is for operation: SUM only")
        if self.coeff and len(self.coeff) != len(bottom_shapes):
            raise ValueError(f"needs one coeff a bottom: {len(bottom_shapes)}, got {len(self.coeff)}")
        check_one_shape(bottom_shapes)
        self.top_shapes = [tuple(bottom_shapes[0])]

    def forward(self, *bottoms):
        check_one_shape([x.shape for x in bottoms])
        y, *rest = bottoms
        if self.operation == "SUM":
            coeff = self.coeff or [1.0] * len(bottoms)
            y = y if coeff[0] == 1 else y * coeff[0]
            for x, c in zip(rest, coeff[1:], strict=True):
                y = torch.add(y, x, alpha=c)
        elif self.operation == "PROD":
            for x in rest:
                y = y * x
        else:
            y = torch.where(y > rest[0], y, rest[0])
            for x in rest[1:]:
                y = torch.where(x > y, x, y)
        return (y,)
