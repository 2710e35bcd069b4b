"""Pooling with Caffe's rounding, and pyramids of it. Caffe: src/caffe/layers/{pooling,spp}_layer.cpp."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from crnn.proto import pb

from .base import Layer, check_axes, register


class Axis(NamedTuple):
    """Windows along H or W: `windows` of `kernel`, one each `stride`, the first `pad` before the edge."""

    size: int
    windows: int
    kernel: int
    stride: int
    pad: int

    @property
    def is_plain(self) -> bool:
        """Whether torch pools as Caffe here: it wants pad ≤ kernel / 2 and drops windows past the map."""
        return 2 * self.pad <= self.kernel and (self.windows - 1) * self.stride < self.size + self.pad

    @property
    def edges(self) -> list[int]:
        """What to add before and behind, so that all windows lie inside."""
        end = (self.windows - 1) * self.stride + self.kernel
        return [self.pad, max(0, end - self.size - self.pad)]

    def extents(self, like):
        """Each window cut at size + pad: AVE's divisor; 0 or less for a window past that."""
        start = torch.arange(self.windows, device=like.device, dtype=like.dtype) * self.stride - self.pad
        return (start + self.kernel).clamp(max=self.size + self.pad) - start


@register("Pooling")
class Pooling(Layer):
    """MAX or AVE over windows; the last window may hang over the edge (`round_mode: CEIL`, the default).

    bottom[0]: [N, C, H, W].    top[0]: [N, C, h, w], h = ⌈(H + 2 pad − k) / stride⌉ + 1, less one if padding
    alone would fill the last window.    top[1] (MAX only): index of the maximum in its H·W plane, as a float.
    Without padding the last window may lie outside of the map altogether. Caffe keeps it, so do we: −FLT_MAX
    and index −1 for MAX, ±0 or NaN for AVE.
    """

    tops = (1, 2)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.pooling_param, bottom_shapes[0]
        check_axes(shape, 4)
        if p.pool == p.STOCHASTIC:
            raise ValueError("pool: STOCHASTIC is not supported; use MAX or AVE")
        if p.pool == p.AVE and len(param.top) > 1:
            raise ValueError("only MAX pooling has a second top")
        self.max, self.mask, self.ceil = p.pool == p.MAX, len(param.top) > 1, p.round_mode == p.CEIL
        self.stride, self.pad = pair(p, "stride"), pair(p, "pad")
        self.kernel = None if p.global_pooling else pair(p, "kernel")  # None: the whole map
        check_windows(p, self.kernel, self.stride, self.pad)
        axes = self.axes(shape)
        if min(axis.windows for axis in axes) < 1:
            raise ValueError(
                f"kernel {[axis.kernel for axis in axes]} does not fit in the bottom {list(shape)}"
            )
        self.top_shapes = [(*shape[:2], *(axis.windows for axis in axes))] * len(param.top)

    def axes(self, shape) -> list[Axis]:
        """H and W of a bottom of this shape."""
        axes = []
        for size, k, s, pad in zip(shape[2:], self.kernel or shape[2:], self.stride, self.pad, strict=True):
            span = size + 2 * pad - k
            windows = (-(-span // s) if self.ceil else span // s) + 1
            # Caffe looks at both pads together, then at each axis alone.
            if any(self.pad) and (windows - 1) * s >= size + pad:
                windows -= 1
            axes.append(Axis(size, windows, k, s, pad))
        return axes

    def forward(self, x):
        axes = self.axes(x.shape)
        pool = self.maximum if self.max else self.average
        return pool(x, axes, [axis.kernel for axis in axes], all(axis.is_plain for axis in axes))

    def average(self, x, axes, kernel, plain):
        if plain:
            return (F.avg_pool2d(x, kernel, self.stride, self.pad, ceil_mode=self.ceil),)
        sums = F.avg_pool2d(padded(x, axes, 0.0), kernel, self.stride, divisor_override=1)
        rows, columns = (axis.extents(x) for axis in axes)
        return (sums / (rows[:, None] * columns),)

    def maximum(self, x, axes, kernel, plain):
        if plain and not self.mask:
            return (F.max_pool2d(x, kernel, self.stride, self.pad, ceil_mode=self.ceil),)
        wide = padded(x, axes, torch.finfo(x.dtype).min)
        y, index = F.max_pool2d(wide, kernel, self.stride, return_indices=True)
        if not self.mask:
            return (y,)
        h, w = axes
        row, column = index // wide.shape[3] - h.pad, index % wide.shape[3] - w.pad
        inside = (row >= 0) & (row < h.size) & (column >= 0) & (column < w.size)
        return y, torch.where(inside, row * w.size + column, -1).to(x.dtype)


@register("SPP")
class SPP(Layer):
    """Spatial pyramid pooling: `pyramid_height` Poolings into 1×1, 2×2, 4×4, ... bins, one behind the other.

    bottom[0]: [N, C, H, W].    top[0]: [N, C · (1 + 4 + ...)]; [N, C, 1, 1] for a pyramid_height of 1.
    Level i has kernel and stride ⌈H / 2^i⌉ and pad ⌈(2^i ⌈H / 2^i⌉ − H) / 2⌉, likewise for W.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.spp_param, tuple(bottom_shapes[0])
        check_axes(shape, 4)
        if p.pyramid_height < 1 or min(shape[2:]) < 1:
            raise ValueError(
                f"needs a pyramid_height of at least 1 and a map, got {p.pyramid_height} and {list(shape)}"
            )
        self.method, self.height = p.PoolMethod.Name(p.pool), p.pyramid_height
        levels = self.levels(shape)
        whole = sum(C * h * w for level in levels for _, C, h, w in level.top_shapes)
        self.top_shapes = levels[0].top_shapes if self.height == 1 else [(shape[0], whole)]

    def levels(self, shape) -> list[Pooling]:
        """A Pooling layer for each level, for a bottom of this shape."""
        layers = []
        for bins in (1 << i for i in range(self.height)):
            kernel_h, kernel_w = (-(-size // bins) for size in shape[2:])
            pooling = pb.PoolingParameter(
                pool=self.method,
                kernel_h=kernel_h,
                kernel_w=kernel_w,
                stride_h=kernel_h,
                stride_w=kernel_w,
                pad_h=(kernel_h * bins - shape[2] + 1) // 2,
                pad_w=(kernel_w * bins - shape[3] + 1) // 2,
            )
            layers.append(Pooling(pb.LayerParameter(top=["level"], pooling_param=pooling), [shape]))
        return layers

    def forward(self, x):
        tops = [level(x)[0] for level in self.levels(tuple(x.shape))]
        return tuple(tops) if self.height == 1 else (torch.cat([y.flatten(1) for y in tops], 1),)


def padded(x, axes: list[Axis], value: float):
    h, w = axes
    return F.pad(x, w.edges + h.edges, value=value)


def pair(p, field: str) -> tuple[int, int]:
    """(h, w) of kernel, stride or pad: `<field>_h` and `<field>_w`, or one number for both."""
    both = "kernel_size" if field == "kernel" else field
    sides = [p.HasField(f"{field}_h"), p.HasField(f"{field}_w")]
    if any(sides) and (p.HasField(both) or (field == "kernel" and not all(sides))):
        raise ValueError(f"give either {both}, or both {field}_h and {field}_w")
    if any(sides):
        return getattr(p, f"{field}_h"), getattr(p, f"{field}_w")
    if field == "kernel" and not p.HasField(both):
        raise ValueError("kernel_size is missing")
    return (getattr(p, both),) * 2


def check_windows(p, kernel, stride, pad) -> None:
    """Raises ValueError for numbers that make no windows."""
    if kernel is None:
        if p.HasField("kernel_size") or p.HasField("kernel_h") or p.HasField("kernel_w"):
            raise ValueError("global_pooling takes its kernel from the bottom; leave kernel_size out")
        if stride != (1, 1) or pad != (0, 0):
            raise ValueError("global_pooling needs stride 1 and pad 0")
        return
    if min(kernel) < 1 or min(stride) < 1:
        raise ValueError(f"kernel and stride must be at least 1, got {list(kernel)} and {list(stride)}")
    if any(pad >= k for pad, k in zip(pad, kernel, strict=True)):
        raise ValueError(f"pad {list(pad)} must be less than the kernel {list(kernel)}")
