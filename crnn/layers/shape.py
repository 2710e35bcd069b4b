"""Concat, Slice, Reshape, Flatten, Split, Silence: the same numbers in other shapes, or in none.

Caffe: src/caffe/layers/{concat,slice,reshape,flatten,split,silence}_layer.cpp.
"""

import math
from itertools import pairwise

import torch

from .base import Layer, canonical_axis, register


def chosen_axis(p, old_name: str, axes: int) -> int:
    """`axis`, or the deprecated `concat_dim` / `slice_dim`, which cannot be negative."""
    if not p.HasField(old_name):
        return canonical_axis(p.axis, axes)
    if p.HasField("axis"):
        raise ValueError(f"give either axis or {old_name}, not both")
    return canonical_axis(getattr(p, old_name), axes, old_name)


@register("Concat")
class Concat(Layer):
    """top[0]: the bottoms one behind the other along `axis` (default 1); their other axes must agree."""

    bottoms = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        first = list(bottom_shapes[0])
        self.axis = chosen_axis(param.concat_param, "concat_dim", len(first))
        for i, shape in enumerate(map(list, bottom_shapes)):
            if shape[: self.axis] + shape[self.axis + 1 :] != first[: self.axis] + first[self.axis + 1 :]:
                names = [f"{name!r} " for name in param.bottom] or [""] * len(bottom_shapes)
                both = f"{names[0]}{first} and {names[i]}{shape}"
                raise ValueError(f"bottoms {both} differ in more than axis {self.axis}")
        first[self.axis] = sum(shape[self.axis] for shape in bottom_shapes)
        self.top_shapes = [tuple(first)]

    def forward(self, *bottoms):
        return (torch.cat(bottoms, self.axis),)


@register("Slice")
class Slice(Layer):
    """top[i]: a part of bottom[0], cut along `axis` (default 1) at each `slice_point` or into equal parts."""

    tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape, self.parts = param.slice_param, list(bottom_shapes[0]), len(param.top)
        self.axis, self.points = chosen_axis(p, "slice_dim", len(shape)), list(p.slice_point)
        ends = self.ends(shape)
        self.top_shapes = [(*shape[: self.axis], b - a, *shape[self.axis + 1 :]) for a, b in pairwise(ends)]

    def ends(self, shape) -> list[int]:
        """Where the parts of a bottom of this shape begin, and where the last ends."""
        size = shape[self.axis]
        if self.points:
            ends = [0, *self.points, size]
            if len(ends) != self.parts + 1 or any(a >= b for a, b in pairwise(ends)):
                raise ValueError(
                    f"needs {self.parts - 1} rising slice_points between 0 and {size}, got {self.points}"
                )
            return ends
        if size % self.parts:
            bottom = f"axis {self.axis} of the bottom {list(shape)}"
            raise ValueError(f"{self.parts} tops do not divide {bottom}; give slice_points")
        return [i * size // self.parts for i in range(self.parts + 1)]

    def forward(self, x):
        return torch.tensor_split(x, self.ends(x.shape)[1:-1], self.axis)


@register("Reshape")
class Reshape(Layer):
    """top[0]: bottom[0] with `num_axes` axes from `axis` on replaced by `shape`.

    A dim 0 copies the bottom's axis; one dim −1 is inferred.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, axes = param.reshape_param, len(bottom_shapes[0])
        self.dims = list(p.shape.dim)
        self.start = p.axis if p.axis >= 0 else axes + p.axis + 1
        self.end = axes if p.num_axes == -1 else self.start + p.num_axes
        if p.num_axes < -1 or not 0 <= self.start <= self.end <= axes:
            raise ValueError(f"axis {p.axis} and num_axes {p.num_axes} do not fit a bottom of {axes} axes")
        if self.dims.count(-1) > 1 or min(self.dims, default=0) < -1:
            raise ValueError(f"shape dims may be positive, 0, and once -1; got {self.dims}")
        self.top_shapes = [self.reshaped(tuple(bottom_shapes[0]))]

    def reshaped(self, shape):
        """The top's shape. Copied axes take no part in the inference, so an empty batch stays empty."""
        dims, rest = list(self.dims), list(shape[self.start : self.end])
        for i, dim in enumerate(dims):
            if dim == 0:
                if self.start + i >= len(shape):
                    raise ValueError(f"dim {i} copies axis {self.start + i}, but the bottom is {list(shape)}")
                dims[i] = shape[self.start + i]
        if -1 in dims:
            copied = [i for i, dim in enumerate(self.dims) if dim == 0 and i < len(rest)]
            known = math.prod(dim for i, dim in enumerate(dims) if dim != -1 and i not in copied)
            values = math.prod(size for i, size in enumerate(rest) if i not in copied)
            if known == 0 or values % known:
                raise ValueError(f"dim -1 cannot be inferred: {list(shape)} does not divide into {self.dims}")
            dims[dims.index(-1)] = values // known
        top = (*shape[: self.start], *dims, *shape[self.end :])
        if math.prod(top) != math.prod(shape):
            raise ValueError(
                f"{list(shape)} has {math.prod(shape)} values, the new shape {list(top)} {math.prod(top)}"
            )
        return top

    def forward(self, x):
        return (x.reshape(self.reshaped(tuple(x.shape))),)


@register("Flatten")
class Flatten(Layer):
    """top[0]: bottom[0] with the axes from `axis` (default 1) to `end_axis` (default the last) as one."""

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.flatten_param, tuple(bottom_shapes[0])
        self.axis = canonical_axis(p.axis, len(shape))
        self.end = canonical_axis(p.end_axis, len(shape), "end_axis")
        if self.end < self.axis:
            raise ValueError(f"end_axis {p.end_axis} lies before axis {p.axis}")
        whole = math.prod(shape[self.axis : self.end + 1])
        self.top_shapes = [(*shape[: self.axis], whole, *shape[self.end + 1 :])]

    def forward(self, x):
        return (x.flatten(self.axis, self.end),)


@register("Split")
class Split(Layer):
    """top[i]: bottom[0]. Nets do not need this layer: a blob may be read many times."""

    tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = [tuple(bottom_shapes[0])] * len(param.top)

    def forward(self, x):
        return (x,) * len(self.top_shapes)


@register("Silence")
class Silence(Layer):
    """No top: its bottoms are read, so that they are no outputs of the net."""

    bottoms = (1, None)
    tops = (0, 0)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = []

    def forward(self, *bottoms):
        return ()
