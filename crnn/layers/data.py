"""Layers without bottoms: Data, Input, DummyData, MemoryData.

Caffe: src/caffe/layers/{data,input,dummy_data,memory_data}_layer.cpp. Those that read files: file_data.py.
"""

import os

import torch

from crnn.proto import pb

from .base import Layer, Shape, register
from .fillers import fill
from .pixels import values


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
    """Batches of an LMDB or LevelDB of Datum records, in key order, over and over.

    top[0]: images [N, C, h, w] after transform_param.    top[1] (optional): labels [N]; with label_source
    their maps [N, 1, h, w].
    forward gives numpy arrays, which the net places on its device; of a net on a GPU the images cross as
    bytes, and mean and scale are applied there.
    """

    tops = (1, 2)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.data_param
        if not p.source:
            raise ValueError("data_param.source is missing: the folder of the database")
        if p.batch_size < 1:
            raise ValueError("data_param.batch_size must be at least 1")
        from crnn.data.loader import BatchLoader  # a net without a Data layer needs no lmdb

        backend = backend_of(p)

        self.loader = BatchLoader(
            p.source,
            p.batch_size,
            param.transform_param,
            param.phase,
            seed=torch.randint(2**31, ()).item(),  # so torch.manual_seed decides the crops and mirrors too
            rand_skip=p.rand_skip,
            label_source=p.label_source,
            backend=backend,
        )
        self.top_shapes = [tuple(shape) for shape in self.loader.top_shapes[: len(param.top)]]
        # Follows the net's device.
        self.register_buffer("like", torch.empty(0), persistent=False)
        self._mean: torch.Tensor | None = None

    def forward(self):
        self.loader.deliver_pixels(self.like.device.type != "cpu")
        data, label, *places = self.loader.next()
        return (self._values(data, *places) if places else data, label)[: len(self.top_shapes)]

    def _values(self, data, places) -> torch.Tensor:
        transformer, device = self.loader.transformer, self.like.device
        if transformer.mean is not None and (self._mean is None or self._mean.device != device):
            self._mean = torch.from_numpy(transformer.mean_values).to(device)
        on_device = (torch.from_numpy(array).to(device) for array in (data, places))
        return values(*on_device, self._mean, float(transformer.scale))


def backend_of(p) -> str:
    """The kind of database that a DataParameter asks for.

    Raises OSError where nothing lies at its source, ValueError where it is a database of the other kind.
    """
    from crnn.data.databases import NAMES, kind

    if not os.path.exists(p.source):
        raise FileNotFoundError(
            f"there is no database {p.source} (paths in a prototxt count from the working directory); "
            "without its data a trained net runs by its deploy prototxt"
        )
    wanted, found = pb.DataParameter.DB.Name(p.backend), kind(p.source)
    if found and found != wanted.lower():
        given = f"is {wanted}" if p.HasField("backend") else "is missing, for which Caffe takes LEVELDB"
        raise ValueError(
            f"data_param.backend {given}, but {p.source} is {NAMES[found]}: write `backend: {found.upper()}`"
        )
    return wanted.lower()


@register("Input")
class Input(Source):
    """Blobs that the caller gives: net(data=x).    top[i]: input_param.shape[i], or the only shape."""

    tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = one_each(shapes_of(param.input_param.shape), len(param.top), "shape")
        self.usage = ", ".join(f"{top}=..." for top in param.top)

    def forward(self):
        raise ValueError(
            f"has no data of its own: call net({self.usage}), or give the train_val, which has Data layers"
        )


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


@register("MemoryData")
class MemoryData(Source):
    """Batches of arrays that the caller sets, in their order, over and over.

    top[0]: [batch_size, channels, height, width].    top[1]: labels [batch_size].
    """

    tops = (2, 2)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.memory_data_param
        self.shape = (p.channels, p.height, p.width)
        if min(p.batch_size, *self.shape) < 1:
            raise ValueError("memory_data_param needs batch_size, channels, height and width, all at least 1")
        self.loader = ArrayLoader(p.batch_size)
        self.top_shapes = [(p.batch_size, *self.shape), (p.batch_size,)]

    def set_input_arrays(self, data, labels) -> None:
        """Takes data [n, C, H, W] and labels [n], n a multiple of batch_size; they are not transformed.

        pycaffe's Net.set_input_arrays. Raises ValueError for other shapes.
        """
        data, labels = torch.as_tensor(data), torch.as_tensor(labels)
        n, batch = len(data), self.loader.batch_size
        if tuple(data.shape[1:]) != self.shape or labels.numel() != n:
            raise ValueError(
                f"needs data [n, {', '.join(map(str, self.shape))}] and a label for each, got "
                f"{list(data.shape)} and {list(labels.shape)}"
            )
        if n == 0 or n % batch:
            raise ValueError(f"needs a multiple of batch_size {batch} rows, got {n}")
        self.loader.arrays = data, labels.reshape(-1)
        self.loader.seek(0)

    def forward(self):
        if self.loader.arrays is None:
            raise ValueError("has no data yet: call its set_input_arrays(data, labels)")
        return self.loader.next()


class ArrayLoader:
    """Slices of two arrays in turn; like every loader it can be told to go on at a `position`."""

    seed = skip = 0

    def __init__(self, batch_size: int):
        self.batch_size, self.position, self.arrays = batch_size, 0, None

    def seek(self, position: int) -> None:
        self.position = position

    def next(self):
        start = self.position % len(self.arrays[0])
        self.position += self.batch_size
        return tuple(array[start : start + self.batch_size] for array in self.arrays)
