"""Blob: values and diff of a net as numpy arrays that are the net's own memory.

Caffe: NdarrayCallPolicies in python/caffe/_caffe.cpp, SyncedMemory in src/caffe/syncedmem.cpp.
"""

import numpy as np
import torch
from torch import Tensor, nn

from crnn.layers.python_layer import Blob as LayerBlob


class Mirror:
    """A tensor's values as an array. On the CPU it is a view. From a GPU it is a copy that, once somebody has
    asked for it, counts as written: `push` takes it back before the GPU's next use, as Caffe does.
    """

    always_copies = False  # tests: what a GPU does, on the CPU

    def __init__(self):
        self.host: Tensor | None = None
        self.ahead = False
        self.asked = False  # whether somebody may hold an array

    def array(self, tensor: Tensor) -> np.ndarray:
        self.asked = True
        tensor = tensor.detach()
        if tensor.device.type == "cpu" and not self.always_copies:
            return tensor.numpy()
        if not self.ahead:
            if self.host is None or self.host.numel() != tensor.numel():
                self.host = torch.empty(tensor.shape, dtype=tensor.dtype)
            self.host.copy_(tensor.view(self.host.shape))  # arrays from before show the new values
            self.ahead = True
        return self.host.view(tensor.shape).numpy()

    def push(self, tensor: Tensor) -> None:
        if self.ahead:
            tensor.data.copy_(self.host.view(tensor.shape))
            self.ahead = False

    def drop(self) -> None:
        """Forgets what was written: the tensor is another one."""
        self.ahead = False


class Blob(LayerBlob):
    """`data` and `diff` are float32 arrays that stay true and may be written, until the shape changes.

    Writes go by `tensor.data`, which autograd's version counters do not see, no more than what a user writes
    into an array: LiveNet looks for them before a backward.
    """

    def __init__(self, tensor: Tensor):
        super().__init__(tensor)
        self._values, self._slopes = Mirror(), Mirror()

    @property
    def data(self) -> np.ndarray:
        return self._values.array(self.tensor)

    @property
    def diff(self) -> np.ndarray:
        return self._slopes.array(self.gradient())

    def values(self) -> Tensor:
        """The tensor behind `data`, with what was written there."""
        self._values.push(self.tensor)
        return self.tensor

    def slopes(self) -> Tensor:
        """The tensor behind `diff`, with what was written there."""
        gradient = self.gradient()
        self._slopes.push(gradient)
        return gradient

    def push(self) -> None:
        """What was written into the arrays, to where the net computes."""
        self.values()
        if self._slopes.ahead:
            self.slopes()

    def set_values(self, values: Tensor) -> None:
        """Copies `values` into `data`, after a reshape to their shape."""
        self.reshape(*values.shape)
        self._values.drop()
        self.tensor.data.copy_(values.detach())

    def share_values(self, other: "Blob", shape, slopes: bool) -> None:
        """Has the memory of `other`'s values, in another shape; with `slopes` its diff's too."""
        values = other.values().detach().view(shape)
        if self.tensor.data_ptr() != values.data_ptr() or self.shape != tuple(shape):
            self.set(values, self._diff)
        self._values = other._values
        if slopes:
            self._diff, self._slopes = other.slopes().view(shape), other._slopes

    def set_slopes(self, slopes: Tensor | None) -> None:
        """Copies `slopes` into `diff`; None stands for zeros."""
        self._slopes.drop()
        if slopes is None:
            self.gradient().data.zero_()
        else:
            self.gradient().data.copy_(slopes.detach())

    def reshape(self, *shape: int) -> None:
        """Another shape. As in Caffe the memory stays where it is large enough, with all that it holds."""
        if any(not isinstance(size, int | np.integer) or size < 0 for size in shape):
            raise ValueError(f"a blob's shape is whole numbers, at least 0, got {list(shape)}")
        if tuple(shape) != self.shape:
            slopes = None if self._diff is None else resized(self.slopes(), shape)
            self.set(resized(self.values(), shape), slopes)


def resized(tensor: Tensor, shape) -> Tensor:
    """The tensor's memory in another shape, or zeros where that is too small."""
    tensor, like = tensor.detach(), torch.empty(shape, dtype=tensor.dtype, device="meta")
    if tensor.storage_offset() or like.nbytes > tensor.untyped_storage().nbytes():
        return tensor.new_zeros(shape)
    return tensor.as_strided(like.shape, like.stride())


class ParamBlob(Blob):
    """A blob that a layer learns: `diff` is the parameter's `grad`."""

    def __init__(self, parameter: nn.Parameter, shape=None):
        """`shape`: the layer's own, where it shares another layer's blob of as many values."""
        super().__init__(parameter)
        self.own_shape = shape

    def share(self, other: "ParamBlob") -> None:
        """Has the memory of `other`'s values; the diff stays its own."""
        self.tensor.data, self._values = other.values().data, other._values

    @property
    def data(self) -> np.ndarray:
        return super().data.reshape(self.shape)

    @property
    def diff(self) -> np.ndarray:
        return super().diff.reshape(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape) if self.own_shape is None else tuple(self.own_shape)

    def reshape(self, *shape: int) -> None:
        """Another shape of the layer's own parameter, for whoever changes a net by hand."""
        if tuple(shape) != self.shape:
            values, slopes = resized(self.values(), shape), resized(self.slopes(), shape)
            self.tensor.grad = None
            self.tensor.data, self.own_shape = values, None
            self.tensor.grad = slopes
