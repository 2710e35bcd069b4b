"""Layers without bottoms: Data, Input, DummyData.

Caffe: src/caffe/layers/{data,input,dummy_data}_layer.cpp.
"""

import torch

from crnn.proto import pb

from .base import Layer, Shape, register
from .fillers import fill


class Source(Layer):
    bottoms = (0, 0)
    source = True


def one_each(values: list, tops: int, what: str) -> list:
    """One value for each top: as given, or the only one for all of them."""
    if len(values) not in (1, tops):
        raise ValueError(f"needs one {what}, or one for each of {tops} tops, got {len(values)}")
    return values if len(values) == tops else values * tops


def shapes_of(messages) -> list[Shape]:
    """BlobShapes as tuples."""
    shapes = [tuple(shape.dim) for shape in messages]
    if any(dim < 0 for shape in shapes for dim in shape):
        raise ValueError(f"shape dims must not be negative, got {[list(shape) for shape in shapes]}")
    return shapes


@register("Data")
class Data(Source):
    """Batches of an LMDB of Datum records, in key order, over and over.

    top[0]: images [N, C, h, w] after transform_param.    top[1] (optional): labels [N].
    forward gives numpy arrays: the net places them on its device.
    """

    tops = (1, 2)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.data_param
        if not p.source:
            raise ValueError("data_param.source is missing: the folder of the LMDB")
        if p.backend != pb.DataParameter.LMDB:
            given = "is LEVELDB" if p.HasField("backend") else "is missing (Caffe's default is LEVELDB)"
            raise ValueError(
                f"data_param.backend {given}, which is not supported: convert the data, `backend: LMDB`"
            )
        if p.batch_size < 1:
            raise ValueError("data_param.batch_size must be at least 1")
        from crnn.data.loader import BatchLoader  # a net without a Data layer needs no lmdb

        self.loader = BatchLoader(
            p.source,
            p.batch_size,
            param.transform_param,
            param.phase,
            seed=torch.randint(2**31, ()).item(),  # so torch.manual_seed decides the crops and mirrors too
            rand_skip=p.rand_skip,
        )
        self.top_shapes = [tuple(shape) for shape in self.loader.top_shapes[: len(param.top)]]

    def forward(self):
        return self.loader.next()[: len(self.top_shapes)]


@register("Input")
class Input(Source):
    """Blobs that the caller gives: net(data=x).    top[i]: input_param.shape[i], or the only shape."""

    tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = one_each(shapes_of(param.input_param.shape), len(param.top), "shape")
        self.usage = ", ".join(f"{top}=..." for top in param.top)

    def forward(self):
        raise ValueError(f"has no data of its own: call net({self.usage})")


@register("DummyData")
class DummyData(Source):
    """Blobs out of fillers (zeros without any); those that are not constant are drawn anew in each forward.

    top[i]: shape[i] (or num, channels, height, width); one shape and one data_filler may serve all tops.
    """

    tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, tops = param.dummy_data_param, len(param.top)
        shapes = shapes_of(p.shape)
        old = [list(getattr(p, name)) for name in ("num", "channels", "height", "width")]
        if any(old):
            if shapes:
                raise ValueError("give either shape or num, channels, height and width")
            sizes = [one_each(values, tops, "num, channels, height and width") for values in old]
            shapes = list(zip(*sizes, strict=True))
        self.top_shapes = one_each(shapes, tops, "shape")
        self.fillers = one_each(list(p.data_filler) or [pb.FillerParameter()], tops, "data_filler")
        self.constants = {i: self.draw(i) for i in range(tops) if self.fillers[i].type == "constant"}

    def draw(self, i: int):
        return fill(torch.empty(self.top_shapes[i]), self.fillers[i])

    def forward(self):
        return tuple(
            self.constants[i] if i in self.constants else self.draw(i) for i in range(len(self.fillers))
        )
