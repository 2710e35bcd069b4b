"""Convolution over one to three spatial axes. Caffe: src/caffe/layers/base_conv_layer.cpp, conv_layer.cpp."""

import torch
import torch.nn.functional as F

from .base import Layer, canonical_axis, register

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


@register("Convolution")
class Convolution(Layer):
    """Cross-correlation with zero padding, stride, dilation and groups.

    bottom[i]: [N, C, sizes...].
    top[i]:    [N, num_output, ⌊(size + 2 pad − dilation (kernel − 1) − 1) / stride⌋ + 1 ...].
    blobs:     W [num_output, C / group, kernel...], b [num_output].
    Bottoms of one shape share the weights, each with its top. Axes before `axis` (C's) are batch axes.
    """

    bottoms = tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.convolution_param, tuple(bottom_shapes[0])
        if len(param.top) != len(bottom_shapes):
            raise ValueError(f"needs as many tops as bottoms, got {len(param.top)} and {len(bottom_shapes)}")
        if any(tuple(other) != shape for other in bottom_shapes):
            raise ValueError(f"needs bottoms of one shape, got {[list(s) for s in bottom_shapes]}")
        self.axis = canonical_axis(p.axis, len(shape))
        channels, spatial = shape[self.axis], shape[self.axis + 1 :]
        if len(spatial) not in CONVOLUTIONS:
            raise ValueError(f"needs 1 to 3 spatial axes after the channels, got {list(shape)}")
        if p.num_output < 1:
            raise ValueError("convolution_param.num_output must be at least 1")
        if p.group < 1 or p.num_output % p.group or channels % p.group:
            raise ValueError(
                f"group {p.group} must divide the bottom's {channels} channels and num_output {p.num_output}"
            )
        self.kernel = per_axis(p, "kernel", len(spatial), least=1)
        self.stride = per_axis(p, "stride", len(spatial), 1, least=1)
        self.pad = per_axis(p, "pad", len(spatial), 0)
        self.dilation = per_axis(p, "dilation", len(spatial), 1, least=1)
        self.group = p.group
        self.add_blob((p.num_output, channels // p.group, *self.kernel), p.weight_filler)
        # Channels innermost in memory: torch is faster on such maps, and the layers after keep them so.
        self.layout = torch.channels_last if len(spatial) == 2 else torch.contiguous_format
        weight = self.blobs.parameter(0)
        weight.data = weight.data.contiguous(memory_format=self.layout)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)
        out = self.output(spatial)
        if min(out) < 1:
            raise ValueError(f"kernel {list(self.kernel)} does not fit in the bottom {list(shape)}")
        self.top_shapes = [(*shape[: self.axis], p.num_output, *out)] * len(bottom_shapes)

    def output(self, spatial):
        geometry = zip(spatial, self.kernel, self.stride, self.pad, self.dilation, strict=True)
        return tuple((size + 2 * pad - d * (k - 1) - 1) // stride + 1 for size, k, stride, pad, d in geometry)

    def forward(self, *bottoms):
        weight, bias = self.blobs[0], self.blobs[1] if len(self.blobs) > 1 else None
        convolve, tops = CONVOLUTIONS[len(self.kernel)], []
        for x in bottoms:
            images = x if self.axis == 1 else x.reshape(-1, *x.shape[self.axis :])
            images = images.to(memory_format=self.layout)  # restrides one channel too, unlike contiguous()
            y = convolve(images, weight, bias, self.stride, self.pad, self.dilation, self.group)
            tops.append(y if self.axis == 1 else y.reshape(*x.shape[: self.axis], *y.shape[1:]))
        return tuple(tops)


def per_axis(p, field: str, axes: int, default: int | None = None, least: int = 0) -> tuple[int, ...]:
    """kernel, stride, pad or dilation of each axis, given as `<field>_h` and `_w`, once, or for each axis."""
    listed = "kernel_size" if field == "kernel" else field
    values = tuple(getattr(p, listed))
    has_sides = f"{field}_h" in p.DESCRIPTOR.fields_by_name  # dilation has not
    if has_sides and (p.HasField(f"{field}_h") or p.HasField(f"{field}_w")):
        if axes != 2 or values:
            raise ValueError(f"{field}_h and {field}_w are for two spatial axes, without {listed}")
        values = (getattr(p, f"{field}_h"), getattr(p, f"{field}_w"))
    elif not values and default is not None:
        values = (default,)
    if not values:
        raise ValueError(f"{listed} is missing")
    if len(values) not in (1, axes):
        raise ValueError(f"{listed} must be given once or for each of {axes} axes, got {len(values)} values")
    if min(values) < least:
        raise ValueError(f"{listed} must be at least {least}, got {list(values)}")
    return values if len(values) == axes else values * axes
