"""Layers written in Python by the protocol of pycaffe, and the Blob that they see.

Caffe: include/caffe/layers/python_layer.hpp, python/caffe/_caffe.cpp. A class of the user's,

    class Twice(crnn.layers.python_layer.PythonLayer):  # caffe.Layer, under crnn.pycaffe
        def setup(self, bottom, top): ...                        # once; reads self.param_str
        def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
        def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
        def backward(self, top, propagate_down, bottom): bottom[0].diff[...] = 2 * top[0].diff

is `layer { type: "Python" python_param { module: "my_module" layer: "Twice" } }`.
"""

import contextlib
import importlib
import math

import numpy as np
import torch
from torch import Tensor, nn

from .base import Layer, register

LEGACY = ("num", "channels", "height", "width")


class Blob:
    """pycaffe's Blob: values and their gradient as numpy arrays that may be written.

    On the CPU `data` and `diff` are views of the tensor and of its `grad`; from a GPU they are copies.
    """

    def __init__(self, tensor: Tensor | None = None):
        self.tensor = torch.zeros(()) if tensor is None else tensor
        self._diff: Tensor | None = None

    @property
    def data(self) -> np.ndarray:
        return self.tensor.detach().cpu().numpy()

    @property
    def diff(self) -> np.ndarray:
        return self.gradient().cpu().numpy()

    def gradient(self) -> Tensor:
        """The tensor behind `diff`: a parameter's `grad`, or the blob's own; zeros at first."""
        if isinstance(self.tensor, nn.Parameter):
            if self.tensor.grad is None:
                self.tensor.grad = torch.zeros_like(self.tensor)
            return self.tensor.grad
        kept, wanted = self._diff, self.tensor
        if kept is None or (kept.shape, kept.dtype) != (wanted.shape, wanted.dtype):
            self._diff = torch.zeros_like(self.tensor)
        return self._diff

    def set(self, tensor: Tensor, diff: Tensor | None = None) -> None:
        """Shows another tensor, and another gradient of it: zeros where None."""
        self.tensor, self._diff = tensor, diff

    def show(self, tensor: Tensor) -> None:
        """Shows another tensor; the gradient stays, as in Caffe, where the shape does."""
        self.set(tensor, self._diff)

    def reshape(self, *shape: int) -> None:
        """Another shape. As in Caffe the values stay where there are as many, and are zeros where not."""
        if tuple(shape) == self.shape:
            return
        if self.tensor.numel() == math.prod(shape):
            self.set(self.tensor.detach().reshape(shape))
        else:
            self.set(self.tensor.new_zeros(shape))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def count(self) -> int:
        return self.tensor.numel()

    def __getattr__(self, name):
        if name not in LEGACY:
            raise AttributeError(f"a Blob has no attribute {name!r}")
        if len(self.shape) > 4:
            raise ValueError(f"a blob of {len(self.shape)} axes has no {name}: {list(self.shape)}")
        return (*self.shape, 1, 1, 1, 1)[LEGACY.index(name)]


class BlobList(list):
    """A Python layer's `blobs`: those it learns."""

    def add_blob(self, *shape: int) -> Blob:
        """Appends a blob of zeros; its `data` can be filled at once."""
        self.append(Blob(nn.Parameter(torch.zeros(shape))))
        return self[-1]


class PythonLayer:
    """The base of users' layers, `caffe.Layer`: they override what they need, and always `forward`.

    phase: 0 TRAIN, 1 TEST.    param_str: python_param.param_str.    blobs: filled by blobs.add_blob in setup.
    """

    type = "Python"

    def __init__(self, param):
        self.layer_param, self.phase, self.param_str = param, param.phase, param.python_param.param_str
        self.blobs = BlobList()

    def setup(self, bottom, top):
        """Called once, before the first reshape."""

    def reshape(self, bottom, top):
        """Called before every forward: gives the tops their shapes."""

    def forward(self, bottom, top):
        """Fills top[i].data from bottom[i].data."""
        raise ValueError(f"class {type(self).__name__} has no forward(self, bottom, top)")

    def backward(self, top, propagate_down, bottom):
        """Fills bottom[i].diff where propagate_down[i], and adds to self.blobs[i].diff."""
        raise ValueError(f"class {type(self).__name__} has no backward(self, top, propagate_down, bottom)")


@register("Python")
class Python(Layer):
    """A layer of the user's own: class `layer` of module `module` on Python's path (see the module's text).

    bottoms, tops: as many as the prototxt names; reshape gives the tops their shapes.
    blobs:         those that its setup adds.
    `share_in_parallel` makes no difference: there is one such layer a process.
    """

    bottoms = tops = (0, None)
    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.user = user_class(param.python_param)(param)
        self.bottom = [Blob(torch.zeros(shape)) for shape in bottom_shapes]
        # A top in place is its bottom, as in Caffe.
        own = dict(zip(param.bottom, self.bottom, strict=True))
        self.top = [own.get(name) or Blob() for name in param.top]
        self.source = not bottom_shapes  # a data layer: the caller may give its tops
        self.user.setup(self.bottom, self.top)
        self.user.reshape(self.bottom, self.top)
        for blob in self.user.blobs:
            self.blobs.append(blob.tensor)
        self.top_shapes = [blob.shape for blob in self.top]

    def forward(self, *bottoms):
        return _Call.apply(self, len(bottoms), *bottoms, *self.parameters())

    @contextlib.contextmanager
    def on_host(self):
        """The user's code sees the parameters; those of a GPU as copies whose changes are taken back."""
        parameters = [self.blobs.parameter(i) for i in range(len(self.blobs))]
        for blob, parameter in zip(self.user.blobs, parameters, strict=True):
            blob.set(parameter)
            if parameter.is_cuda:
                blob.set(nn.Parameter(parameter.detach().cpu()))
                blob.tensor.grad = None if parameter.grad is None else parameter.grad.cpu()
        yield
        for blob, parameter in zip(self.user.blobs, parameters, strict=True):
            if parameter.is_cuda:
                parameter.data.copy_(blob.tensor)
                parameter.grad = None if blob.tensor.grad is None else blob.tensor.grad.to(parameter.device)


def user_class(p) -> type:
    """The class that a PythonParameter names. Raises ValueError where there is none."""
    try:
        module = importlib.import_module(p.module)
    except ModuleNotFoundError as error:
        if not f"{p.module}.".startswith(f"{error.name}."):
            raise  # the module is there and imports one that is not
        raise ValueError(
            f"python_param.module {p.module!r} is not found: put its folder on PYTHONPATH"
        ) from None
    if not hasattr(module, p.layer):
        raise ValueError(f"{module} has no class {p.layer!r}, python_param.layer")
    found = getattr(module, p.layer)
    if not isinstance(found, type):
        raise ValueError(f"python_param.layer {p.layer!r} of {p.module} is no class")
    return found


class _Call(torch.autograd.Function):
    """The user's forward and backward on numpy arrays; parameters' gradients are added by the user's code."""

    @staticmethod
    def forward(ctx, layer, n, *tensors):
        bottoms, device = tensors[:n], tensors[0].device if tensors else torch.device("cpu")
        bottoms = [x if x.is_floating_point() else x.float() for x in bottoms]
        for blob, x in zip(layer.bottom, bottoms, strict=True):
            # A copy, where the layer works in place: others may still need the values.
            x = x.detach().cpu()
            blob.show(x.clone() if any(blob is top for top in layer.top) else x)
        for blob in layer.top:
            blob.show(blob.tensor.to(bottoms[0].dtype if bottoms else blob.tensor.dtype))
        with layer.on_host():
            layer.user.reshape(layer.bottom, layer.top)
            layer.user.forward(layer.bottom, layer.top)
        tops = tuple(blob.tensor.detach().clone().to(device) for blob in layer.top)
        ctx.layer, ctx.n = layer, n
        ctx.save_for_backward(*bottoms, *tops)
        return tops

    @staticmethod
    def backward(ctx, *dtops):
        layer, n = ctx.layer, ctx.n
        bottoms, tops = ctx.saved_tensors[:n], ctx.saved_tensors[n:]
        for blob, x in zip(layer.bottom, bottoms, strict=True):
            blob.show(x.detach().cpu())
        for blob, y, dy in zip(layer.top, tops, dtops, strict=True):
            blob.set(y.detach().cpu(), dy.detach().cpu().clone())
        wanted = list(ctx.needs_input_grad[2 : 2 + n])
        with layer.on_host():
            layer.user.backward(layer.top, wanted, layer.bottom)
        dbottoms = [
            blob.gradient().clone().to(x.device) if want else None
            for blob, x, want in zip(layer.bottom, bottoms, wanted, strict=True)
        ]
        if torch.is_grad_enabled():  # create_graph: what the user's code made of them is not recorded
            dbottoms = [d if d is None else _Once.apply(layer, d, *bottoms, *dtops) for d in dbottoms]
        return None, None, *dbottoms, *[None] * (len(ctx.needs_input_grad) - 2 - n)


class _Once(torch.autograd.Function):
    """A gradient whose own gradient is refused: autograd would take it for zero."""

    @staticmethod
    def forward(ctx, layer, gradient, *made_from):
        ctx.layer = layer
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, dy):
        raise ValueError(f"layer {ctx.layer.name!r} (Python) has no second derivative")
