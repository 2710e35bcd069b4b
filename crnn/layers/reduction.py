"""Reduction and ArgMax: many values into few. Caffe: src/caffe/layers/{reduction,argmax}_layer.cpp."""

import math

import torch

from .base import Layer, canonical_axis, no_gradient, register

OPERATIONS = {
    "SUM": lambda rows: rows.sum(-1),
    "ASUM": lambda rows: rows.abs().sum(-1),
    "SUMSQ": lambda rows: rows.square().sum(-1),
    "MEAN": lambda rows: rows.mean(-1),
}


@register("Reduction")
class Reduction(Layer):
    """coeff · SUM, ASUM (of magnitudes), SUMSQ (of squares) or MEAN over `axis` (default 0) and all after it.

    bottom[0]: any shape.    top[0]: the axes before `axis`; a scalar for axis 0.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.reduction_param, tuple(bottom_shapes[0])
        self.axis = canonical_axis(p.axis, len(shape))
        self.reduce, self.coeff = OPERATIONS[p.ReductionOp.Name(p.operation)], p.coeff
        self.top_shapes = [shape[: self.axis]]

    def forward(self, x):
        y = self.reduce(x.flatten(self.axis))
        return (y if self.coeff == 1 else y * self.coeff,)


@register("ArgMax")
class ArgMax(Layer):
    """The indices of the `top_k` largest values, as floats, best first; of equal values the last comes first.

    With `axis`: along it. top[0]: the bottom's shape with top_k at `axis`; the values themselves, in place of
    the indices, with `out_max_val`.
    Without: over all of a sample's values, C·H·W. top[0]: [N, 1, top_k]; with `out_max_val` [N, 2, top_k],
    indices and then values; as many axes of 1 more as the bottom has.
    No gradient; a backward through it is an error.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.argmax_param, tuple(bottom_shapes[0])
        if not shape:
            raise ValueError("needs a bottom of at least 1 axis, got a scalar")
        self.top_k, self.values = p.top_k, p.out_max_val
        self.axis = canonical_axis(p.axis, len(shape)) if p.HasField("axis") else None
        choices = math.prod(shape[1:]) if self.axis is None else shape[self.axis]
        if not 1 <= self.top_k <= choices:
            raise ValueError(f"top_k {self.top_k} is not within 1 and the {choices} values to choose from")
        self.top_shapes = [self.top_shape(shape)]

    def top_shape(self, shape):
        if self.axis is not None:
            return (*shape[: self.axis], self.top_k, *shape[self.axis + 1 :])
        return (shape[0], 2 if self.values else 1, self.top_k, *(1,) * (len(shape) - 3))

    def forward(self, x):
        rows, axis = x, self.axis
        if self.axis is None:
            rows, axis = x.flatten(1) if x.dim() > 1 else x[:, None], 1
        # A stable sort of the reversed row puts the later of two equal values first.
        values, index = rows.flip(axis).sort(dim=axis, descending=True, stable=True)
        values, index = values.narrow(axis, 0, self.top_k), index.narrow(axis, 0, self.top_k)
        index = (rows.shape[axis] - 1 - index).to(x.dtype)
        if self.axis is not None:
            return (no_gradient(values if self.values else index, x, self),)
        y = torch.stack([index, values], 1) if self.values else index
        return (no_gradient(y.reshape(self.top_shape(x.shape)), x, self),)
