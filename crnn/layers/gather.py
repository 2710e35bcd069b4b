"""Crop, Tile, Filter, BatchReindex: parts of a blob, or several copies of it.

Caffe: src/caffe/layers/{crop,tile,filter,batch_reindex}_layer.cpp.
"""

import math

from .base import Layer, canonical_axis, check_indices, register


@register("Crop")
class Crop(Layer):
    """The window of bottom[0] at `offset` that is as large as bottom[1] from `axis` (default 2) on.

    bottom[0]: the data.    bottom[1]: only its shape counts.
    top[0]:    bottom[0]'s axes before `axis`, then bottom[1]'s.
    `offset`: one for all cropped axes, or one for each; 0 by default.
    """

    bottoms = (2, 2)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, axes = param.crop_param, len(bottom_shapes[0])
        self.axis = canonical_axis(p.axis, axes)
        self.offset = list(p.offset) or [0]
        if len(self.offset) not in (1, axes - self.axis):
            raise ValueError(
                f"offset must be given once or for each of the {axes - self.axis} axes from {self.axis} on, "
                f"got {len(self.offset)} values"
            )
        if len(self.offset) == 1:
            self.offset *= axes - self.axis
        self.top_shapes = [self.top_shape(*bottom_shapes)]

    def top_shape(self, shape, like):
        wanted = tuple(like[self.axis : len(shape)])
        room = zip(shape[self.axis :], self.offset, wanted, strict=False)
        if len(like) < len(shape) or any(size - offset < want for size, offset, want in room):
            raise ValueError(
                f"{list(wanted)} at offset {self.offset} is not inside axes {self.axis}.. of {list(shape)}"
            )
        return (*shape[: self.axis], *wanted)

    def forward(self, x, like):
        for i, size in enumerate(self.top_shape(x.shape, like.shape)[self.axis :]):
            x = x.narrow(self.axis + i, self.offset[i], size)
        return (x,)


@register("Tile")
class Tile(Layer):
    """`tiles` copies of bottom[0] one behind the other along `axis` (default 1).

    bottom[0]: any shape.    top[0]: the same with `tiles` times the extent at `axis`.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.tile_param, list(bottom_shapes[0])
        self.axis = canonical_axis(p.axis, len(shape))
        if p.tiles < 1:
            raise ValueError("tile_param.tiles must be at least 1")
        self.repeats = [1] * len(shape)
        self.repeats[self.axis] = p.tiles
        shape[self.axis] *= p.tiles
        self.top_shapes = [tuple(shape)]

    def forward(self, x):
        return (x.repeat(self.repeats),)


@register("Filter")
class Filter(Layer):
    """The samples whose selector is not 0, in their order; none at all makes empty tops.

    bottom[i]: [N, ...].    bottom[-1]: the selector [N] or [N, 1, ...].    top[i]: [n, ...], n ≤ N.
    """

    bottoms = (2, None)
    tops = (1, None)
    indices = (-1,)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        if len(param.top) != len(bottom_shapes) - 1:
            raise ValueError(
                f"needs {len(bottom_shapes) - 1} tops, one less than bottoms; got {len(param.top)}"
            )
        self.check(bottom_shapes)
        self.top_shapes = [tuple(shape) for shape in bottom_shapes[:-1]]

    def check(self, shapes):
        *data, selector = map(tuple, shapes)
        if not selector or math.prod(selector[1:]) != 1 or any(shape[:1] != selector[:1] for shape in data):
            raise ValueError(f"needs a selector [N] and bottoms [N, ...], got {[list(s) for s in shapes]}")

    def forward(self, *bottoms):
        self.check([x.shape for x in bottoms])
        *data, selector = bottoms
        chosen = selector.reshape(-1).nonzero().squeeze(1)
        return tuple(x.index_select(0, chosen) for x in data)


@register("BatchReindex")
class BatchReindex(Layer):
    """top[0][i] = bottom[0][bottom[1][i]]; a sample that is taken several times sums their gradients.

    bottom[0]: [N, ...].    bottom[1]: indices [n] in 0..N−1.    top[0]: [n, ...].
    """

    bottoms = (2, 2)
    indices = (1,)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        shape, index = bottom_shapes
        if not shape or len(index) != 1:
            raise ValueError(f"needs bottoms [N, ...] and [n], got {list(shape)} and {list(index)}")
        self.top_shapes = [(index[0], *shape[1:])]

    def forward(self, x, index):
        check_indices("index", index, x.shape[0], "samples")
        return (x.index_select(0, index.long()),)
