"""BatchNorm, Scale, Bias, MVN. Caffe: src/caffe/layers/{batch_norm,scale,bias,mvn}_layer.cpp."""

import torch
import torch.nn.functional as F
from torch import distributed

from crnn.proto import pb

from .base import Layer, Shape, canonical_axis, register, with_gradient_of

ONE = pb.FillerParameter(type="constant", value=1)


@register("BatchNorm")
class BatchNorm(Layer):
    """(x − mean) / √(var + eps) a channel; scale and shift are the Scale layer's.

    bottom[0], top[0]: [N, C, ...] or [N].
    blobs (none of them learned): mean [C], variance [C], both running sums; factor [1], their common weight.
    TRAIN: statistics of the batch (population variance σ²), and the sums move: factor ← λ factor + 1,
    mean ← λ mean + μ, variance ← λ variance + m / (m − 1) σ², with λ = moving_average_fraction and m values
    a channel.
    TEST, or `use_global_stats`: mean / factor and variance / factor (0 where factor is 0).
    `sync`: where several processes train together, the statistics are those of all their batches, which must
    be of one size.
    """

    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.batch_norm_param, tuple(bottom_shapes[0])
        self.use_sums = p.use_global_stats if p.HasField("use_global_stats") else not self.train_phase
        self.fraction, self.eps, self.sync = p.moving_average_fraction, p.eps, p.sync
        self.channels = shape[1] if len(shape) > 1 else 1
        for size in (self.channels, self.channels, 1):
            self.add_blob((size,), learnable=False)
        while len(param.param) < len(self.blobs):
            param.param.add(lr_mult=0)  # part of the definition that a snapshot holds
        self.top_shapes = [shape]

    def forward(self, x):
        images = x if x.dim() > 1 else x[:, None]
        if self.use_sums:
            mean, variance, factor = self.blobs
            share = torch.where(factor == 0, 0, 1 / factor)
            y = F.batch_norm(images, mean * share, variance * share, eps=self.eps)
        elif self.sync and distributed.is_available() and distributed.is_initialized():
            y = self.over_all_processes(images)
        else:
            # With momentum 1 torch leaves the batch's own mean and m / (m - 1) σ² in the two buffers.
            mean, variance = images.new_zeros(2, self.channels)
            y = torch.batch_norm(
                images, None, None, mean, variance, True, 1.0, self.eps, torch.backends.cudnn.enabled
            )
            if images.numel():
                self.move_sums(
                    mean, variance if images.numel() > self.channels else torch.zeros_like(variance)
                )
        return (y.reshape(x.shape),)

    def over_all_processes(self, images):
        shape, axes = (1, -1, *[1] * (images.dim() - 2)), [i for i in range(images.dim()) if i != 1]
        mean = mean_of_all(images.mean(axes))
        variance = mean_of_all((images - mean.reshape(shape)).square().mean(axes))
        count = images.numel() // self.channels * distributed.get_world_size()
        self.move_sums(mean, variance * (count / (count - 1) if count > 1 else 0))
        return (images - mean.reshape(shape)) * (variance + self.eps).rsqrt().reshape(shape)

    @torch.no_grad()
    def move_sums(self, mean, variance):
        for blob, batch in zip(self.blobs, (mean, variance, 1), strict=True):
            blob.mul_(self.fraction).add_(batch)


def mean_of_all(values):
    """The mean over the processes of what each has, with its gradient."""
    from torch.distributed.nn.functional import all_reduce  # not in every build of torch

    return all_reduce(values.contiguous()) / distributed.get_world_size()


class Broadcast(Layer):
    """What combines bottom[0] with a smaller blob, bottom[1] or its own, over some of its axes."""

    bottoms = (1, 2)
    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = [tuple(bottom_shapes[0])]

    def operand(self, p, bottom_shapes, filler) -> Shape:
        """The smaller blob's shape: bottom[0]'s from `axis` on for `num_axes` axes (−1: to the last).

        Appends the blob unless it is bottom[1].
        """
        shape = tuple(bottom_shapes[0])
        scalar = bottom_shapes[1] == () if len(bottom_shapes) == 2 else p.num_axes == 0
        axis = 0 if scalar else canonical_axis(p.axis, len(shape))
        if len(bottom_shapes) == 2:
            small = tuple(bottom_shapes[1])
        else:
            end = len(shape) if p.num_axes == -1 else axis + p.num_axes
            if not axis <= end <= len(shape):
                raise ValueError(
                    f"axis {p.axis} and num_axes {p.num_axes} do not fit the bottom {list(shape)}"
                )
            small = shape[axis:end]
            self.add_blob(small, filler)
        self.check(shape, small, axis)
        self.start, self.tail = axis, (1,) * (len(shape) - axis - len(small))  # axes behind the small blob's
        self.given = len(bottom_shapes) == 2
        return small

    def check(self, shape, small, axis):
        if tuple(small) != tuple(shape[axis : axis + len(small)]):
            raise ValueError(
                f"the {self.type.lower()} {list(small)} does not fit the bottom {list(shape)} at axis {axis}"
            )

    def spread(self, x, small):
        self.check(x.shape, small.shape, self.start)
        return small.reshape(small.shape + self.tail)


@register("Scale")
class Scale(Broadcast):
    """x · s + b, s and b of the shape of bottom[0]'s axes `axis` .. `axis + num_axes − 1` (−1: to the last).

    bottom[0], top[0]: any shape.    bottom[1] (optional): s, in place of the blob.
    blobs:             s (filled with 1 by default) unless it is bottom[1], then b with `bias_term`.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.scale_param
        shape = self.operand(p, bottom_shapes, p.filler if p.HasField("filler") else ONE)
        if p.bias_term:
            self.add_blob(shape, p.bias_filler)

    def forward(self, x, *scale):
        s, *b = [*scale, *self.blobs]
        y = x * self.spread(x, s)
        return (y + self.spread(x, b[0]) if b else y,)


@register("Bias")
class Bias(Broadcast):
    """x + b, b of the shape of bottom[0]'s axes `axis` .. `axis + num_axes − 1` (−1: to the last).

    bottom[0], top[0]: any shape.    bottom[1] (optional): b, in place of the blob.
    blobs:             b unless it is bottom[1].
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.operand(param.bias_param, bottom_shapes, param.bias_param.filler)

    def forward(self, x, *bias):
        (b,) = [*bias, *self.blobs]
        return (x + self.spread(x, b),)


@register("MVN")
class MVN(Layer):
    """(x − μ) / (σ + eps) with each map's own mean and deviation; the mean alone without normalize_variance.

    bottom[0]: [N, C, H, W] or fewer axes.    top[0]: the same as 4 axes.
    `across_channels`: one μ and σ a sample instead of one a channel. The gradient is Caffe's, which takes σ
    for σ + eps.
    """

    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.mvn_param, tuple(bottom_shapes[0])
        if len(shape) > 4:
            raise ValueError(f"needs a bottom of at most 4 axes, got {list(shape)}")
        self.axes = (1, 2, 3) if p.across_channels else (2, 3)
        self.divide, self.eps = p.normalize_variance, p.eps
        self.top_shapes = [shape + (1,) * (4 - len(shape))]

    def forward(self, x):
        x = x.reshape(x.shape + (1,) * (4 - x.dim()))
        centred = x - x.mean(self.axes, keepdim=True)
        if not self.divide:
            return (centred,)
        variance = centred.square().mean(self.axes, keepdim=True)
        divisor = variance.detach().sqrt() + self.eps
        return (centred / with_gradient_of(divisor, variance / (2 * divisor)),)
