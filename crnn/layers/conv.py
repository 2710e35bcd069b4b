"""Convolution, Deconvolution and Im2col over one to three spatial axes.

Caffe: src/caffe/layers/{base_conv,conv,deconv,im2col}_layer.cpp.
"""

import math

import torch
import torch.nn.functional as F

from .base import Layer, canonical_axis, register

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
DECONVOLUTIONS = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Windows(Layer):
    """Windows of `kernel` with stride, pad and dilation over the axes behind `axis`, the channels' one.

    Axes before `axis` are batch axes.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.convolution_param, tuple(bottom_shapes[0])
        if len(param.top) != len(bottom_shapes):
            raise ValueError(f"needs as many tops as bottoms, got {len(param.top)} and {len(bottom_shapes)}")
        if any(tuple(other) != shape for other in bottom_shapes):
            raise ValueError(f"needs bottoms of one shape, got {[list(s) for s in bottom_shapes]}")
        self.axis = canonical_axis(p.axis, len(shape))
        self.channels, spatial = shape[self.axis], shape[self.axis + 1 :]
        if len(spatial) not in CONVOLUTIONS:
            raise ValueError(f"needs 1 to 3 spatial axes after the channels, got {list(shape)}")
        self.kernel = per_axis(p, "kernel", len(spatial), least=1)
        self.stride = per_axis(p, "stride", len(spatial), 1, least=1)
        self.pad = per_axis(p, "pad", len(spatial), 0)
        self.dilation = per_axis(p, "dilation", len(spatial), 1, least=1)
        self.same = p.same_pad
        if self.same and (any(self.pad) or param.type != "Convolution"):
            raise ValueError("same_pad is a Convolution's, and without pad")
        out = self.output(spatial)
        if min(out) < 1:
            raise ValueError(f"kernel {list(self.kernel)} does not fit in the bottom {list(shape)}")
        top = (*shape[: self.axis], self.top_channels(p), *out)
        self.top_shapes = [top] * len(bottom_shapes)

    def top_channels(self, p) -> int:
        raise NotImplementedError

    def geometry(self, spatial):
        """(size, span of the kernel, stride, pad) of each spatial axis."""
        spans = (d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        return zip(spatial, spans, self.stride, self.pad, strict=True)

    def output(self, spatial):
        if self.same:
            return tuple(-(-size // stride) for size, _, stride, _ in self.geometry(spatial))
        return tuple(
            (size + 2 * pad - span) // stride + 1 for size, span, stride, pad in self.geometry(spatial)
        )

    def missing(self, spatial) -> list[int]:
        """Of same_pad: the zeros that each axis needs so that its windows fit."""
        sizes = zip(self.output(spatial), self.geometry(spatial), strict=True)
        return [max((n - 1) * stride + span - size, 0) for n, (size, span, stride, _) in sizes]


class Weighted(Windows):
    """Windows times weights, in groups. Bottoms of one shape share the weights, each with its top."""

    bottoms = tops = (1, None)
    transposed = False  # windows of the top, weights [C, num_output / group, ...]

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.convolution_param
        self.group, axes = p.group, len(self.kernel)
        self.apply_weights = (DECONVOLUTIONS if self.transposed else CONVOLUTIONS)[axes]
        rows, columns = (self.channels, p.num_output) if self.transposed else (p.num_output, self.channels)
        self.add_blob((rows, columns // p.group, *self.kernel), p.weight_filler)
        # Channels innermost in memory: torch is faster on such maps, and the layers after keep them so.
        self.layout = torch.channels_last if axes == 2 else torch.contiguous_format
        weight = self.blobs.parameter(0)
        weight.data = weight.data.contiguous(memory_format=self.layout)
        if p.bias_term:
            self.add_blob((p.num_output,), p.bias_filler)

    def top_channels(self, p):
        if p.num_output < 1:
            raise ValueError("convolution_param.num_output must be at least 1")
        if p.group < 1 or p.num_output % p.group or self.channels % p.group:
            raise ValueError(
                f"group {p.group} must divide the bottom's {self.channels} channels and "
                f"num_output {p.num_output}"
            )
        return p.num_output

    def forward(self, *bottoms):
        weight, bias = self.blobs[0], self.blobs[1] if len(self.blobs) > 1 else None
        options = {
            "stride": self.stride,
            "padding": self.pad,
            "dilation": self.dilation,
            "groups": self.group,
        }
        tops = []
        for x in bottoms:
            images = x if self.axis == 1 else x.reshape(-1, *x.shape[self.axis :])
            images = images.to(memory_format=self.layout)  # restrides one channel too, unlike contiguous()
            if self.same:
                missing = self.missing(images.shape[2:])
                options["padding"] = [count // 2 for count in missing]
                if any(count % 2 for count in missing):
                    images = F.pad(images, [edge for count in reversed(missing) for edge in (0, count % 2)])
            y = self.apply_weights(images, weight, bias, **options)
            tops.append(y if self.axis == 1 else y.reshape(*x.shape[: self.axis], *y.shape[1:]))
        return tuple(tops)


@register("Convolution")
class Convolution(Weighted):
    """Cross-correlation with zero padding, stride, dilation and groups.

    bottom[i]: [N, C, sizes...].
    top[i]:    [N, num_output, ⌊(size + 2 pad − dilation (kernel − 1) − 1) / stride⌋ + 1 ...]; with same_pad
               (ours) ⌈size / stride⌉.
    blobs:     W [num_output, C / group, kernel...], b [num_output].
    Bottoms of one shape share the weights, each with its top. Axes before `axis` (C's) are batch axes.
    """


@register("Deconvolution")
class Deconvolution(Weighted):
    """Convolution's transpose: every value of the bottom adds its multiple of the kernel to the top.

    bottom[i]: [N, C, sizes...].
    top[i]:    [N, num_output, stride (size − 1) + dilation (kernel − 1) + 1 − 2 pad ...].
    blobs:     W [C, num_output / group, kernel...], b [num_output].
    Bilinear upsampling: group and num_output C, filler bilinear, bias_term false.
    """

    transposed = True

    def output(self, spatial):
        return tuple(
            stride * (size - 1) + span - 2 * pad for size, span, stride, pad in self.geometry(spatial)
        )


@register("Im2col")
class Im2col(Windows):
    """Each window as a column of channels: what Convolution multiplies its weights with.

    bottom[0]: [N, C, sizes...].    top[0]: [N, C · kernel's size, windows...], the kernel's place innermost.
    """

    def top_channels(self, p):
        return self.channels * math.prod(self.kernel)

    def forward(self, x):
        axes, first = len(self.kernel), self.axis + 1
        y = F.pad(x, [pad for pad in reversed(self.pad) for _ in range(2)])
        for i, (_, span, stride, _) in enumerate(self.geometry(x.shape[first:])):
            y = y.unfold(first + i, span, stride)[..., :: self.dilation[i]]  # the windows' places go last
        places = range(first + axes, first + 2 * axes)
        y = y.permute(*range(first), *places, *range(first, first + axes))
        return (y.flatten(self.axis, self.axis + axes),)


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
