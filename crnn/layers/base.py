"""What a layer is, and the one table of layer types."""

import difflib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crnn.proto import pb
from crnn.proto.forks import LAYERS

from .fillers import fill

Shape = tuple[int, ...]
MAX_VALUES = 1 << 40  # of a blob

TYPES: dict[str, type["Layer"]] = {}


def register(name: str):
    """Class decorator: makes `type: "<name>"` of a prototxt build this class."""

    def add(cls):
        if name in TYPES:
            raise ValueError(
                f"layer type {name!r} is registered by {TYPES[name].__module__} and {cls.__module__}"
            )
        TYPES[name] = cls
        cls.type = name
        return cls

    return add


def find(name: str) -> type["Layer"]:
    """The class of a layer type; ValueError names the fork that has it, or the nearest known type."""
    if name in TYPES:
        return TYPES[name]
    by_lower = {known.lower(): known for known in TYPES}
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    own = "one of your own comes with `crnn --import MODULE`"
    if name in LAYERS:
        hint = f"a fork of Caffe has it ({LAYERS[name]}); {own}"
    elif near:
        hint = f"did you mean {by_lower[near[0]]!r}?"
    else:
        hint = f"{own}; known types: {', '.join(sorted(TYPES))}"
    raise ValueError(f"unknown layer type {name!r}; {hint}")


def build(param, bottom_shapes: Sequence[Shape]) -> "Layer":
    """The layer that `param` (a LayerParameter with its phase set) describes."""
    return find(param.type)(param, bottom_shapes)


class Blobs(nn.ParameterList):
    """The parameters of a layer in Caffe's order. A shared one is its owner's, read in this layer's shape."""

    def __init__(self):
        super().__init__()
        self.shapes: dict[int, Shape] = {}
        self.taken: list[Tensor] | None = None  # what the layer is to read instead, in its shapes

    def parameter(self, index: int) -> nn.Parameter:
        """What the solver updates: the owner, in the owner's shape."""
        return super().__getitem__(index)

    def share(self, index: int, owner: nn.Parameter) -> None:
        """Takes `owner` for the blob at `index`; its own shape stays, so the counts must agree."""
        shape = tuple(self[index].shape)
        self[index] = owner
        if owner.shape != shape:
            owner.data = owner.data.contiguous()  # a convolution's is not: it has no view in another shape
            self.shapes[index] = shape

    def __getitem__(self, index):
        if self.taken is not None:
            return self.taken[index]
        blob = super().__getitem__(index)
        return blob.view(self.shapes[index]) if index in self.shapes else blob


class Layer(nn.Module):
    """Bottoms in, tops out. A subclass sets `top_shapes` and creates `blobs` in Caffe's order.

    `top_shapes` are those for the bottoms given to the constructor; `forward` takes any batch size. A
    constructor reports bad parameters as a ValueError without the layer's name: the graph knows its place.
    """

    type: str  # set by register()
    bottoms: tuple[int, int | None] = (1, 1)  # least and most bottoms; None: no limit
    tops: tuple[int, int | None] = (1, 1)
    is_loss = False  # the first top has loss_weight 1 unless the prototxt says otherwise
    in_place = False  # a top may have its bottom's name
    source = False  # makes blobs out of nothing: no bottoms
    indices: tuple[int, ...] = ()  # bottoms that hold class or row numbers: not cast, no gradient

    top_shapes: list[Shape]

    def __init__(self, param, bottom_shapes: Sequence[Shape]):
        super().__init__()
        check_count("bottom", len(bottom_shapes), self.bottoms)
        check_count("top", len(param.top), self.tops)
        self.name, self.train_phase = param.name, param.phase == pb.TRAIN
        self.blobs = Blobs()

    def add_blob(self, shape: Shape, filler=None, learnable: bool = True) -> None:
        """Appends a float32 blob filled by `filler` (a FillerParameter; None: zeros)."""
        check_size(shape)
        try:
            blob = torch.zeros(shape)
        except RuntimeError as error:  # of torch, in its allocator's words
            size = 4 * math.prod(shape) / 1e9
            raise ValueError(f"no memory for a blob of shape {list(shape)}, {size:,.1f} GB") from error
        if filler is not None:
            fill(blob, filler)
        self.blobs.append(nn.Parameter(blob, requires_grad=learnable))

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def uses(self, index: int) -> int:
        """How often the layer uses a blob: more than once where it stands for an unrolled net."""
        return 1


def check_count(what: str, count: int, limits: tuple[int, int | None]) -> None:
    """Raises ValueError unless `count` bottoms or tops are allowed."""
    least, most = limits
    if count < least or (most is not None and count > most):
        some = f"at least {least}" if most is None else f"{least} to {most}"
        wanted = str(least) if least == most else some
        raise ValueError(f"takes {wanted} {what}{'s' if wanted != '1' else ''}, got {count}")


def check_size(shape: Shape) -> None:
    """Raises ValueError for a blob that no machine holds; torch's own error is no user's, or none comes."""
    if min(shape, default=0) < 0:
        raise ValueError(f"a blob of shape {list(shape)}: no axis has fewer than 0 values")
    if math.prod(shape) > MAX_VALUES:
        raise ValueError(f"a blob of shape {list(shape)} would hold more than 2^40 values")


def check_axes(shape: Shape, count: int) -> None:
    """Raises ValueError unless the bottom has `count` axes."""
    if len(shape) != count:
        raise ValueError(f"needs a bottom of {count} axes, got {list(shape)}")


def canonical_axis(axis: int, axes: int, what: str = "axis") -> int:
    """`axis` counted from the front; negative ones count from the end, as in Caffe."""
    if not -axes <= axis < axes:
        raise ValueError(f"{what} {axis} is outside of a bottom with {axes} axes")
    return axis % axes


def check_indices(what: str, values: Tensor, count: int, those: str, counted: Tensor | None = None) -> None:
    """Raises ValueError for the first of `values`, `what` they are, that is not one of `count` `those`.

    `counted`: where to look.

    On a GPU this waits for the layers before it: about one launch a step is lost. A captured graph cannot
    wait, and goes unchecked.
    """
    index = values.long()
    wrong = (index < 0) | (index >= count)
    if counted is not None:
        wrong = wrong & counted
    if not (wrong.is_cuda and torch.cuda.is_current_stream_capturing()) and wrong.any():
        value = values[wrong][0].item()
        raise ValueError(f"{what} {value:g} is not one of the {count} {those} 0 to {count - 1}")


def with_gradient_of(value: Tensor, other: Tensor) -> Tensor:
    """`value`, whose gradient is that of `other`: for the places where Caffe's backward is no derivative."""
    return _GradientOf.apply(value.detach(), other)


class _GradientOf(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, other):
        return value.clone()

    @staticmethod
    def backward(ctx, dy):
        return None, dy


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y, x, layer):
        ctx.layer = layer
        return y.view_as(y)

    @staticmethod
    def backward(ctx, dy):
        raise ValueError(
            f"layer {ctx.layer.name!r} ({ctx.layer.type}) has no gradient: cut it off with "
            "propagate_down: false in the layer that reads it"
        )


def no_gradient(y: Tensor, x: Tensor, layer: Layer) -> Tensor:
    """`y`, made from `x` by a step function: a backward that would need its gradient raises ValueError."""
    return _NoGradient.apply(y, x, layer)
