"""BatchNorm and Scale. Caffe: src/caffe/layers/{batch_norm,scale}_layer.cpp."""

import torch
import torch.nn.functional as F

from crnn.proto import pb

from .base import Layer, canonical_axis, register

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
    """

    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.batch_norm_param, tuple(bottom_shapes[0])
        self.use_sums = p.use_global_stats if p.HasField("use_global_stats") else not self.train_phase
        self.fraction, self.eps = p.moving_average_fraction, p.eps
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

    @torch.no_grad()
    def move_sums(self, mean, variance):
        for blob, batch in zip(self.blobs, (mean, variance, 1), strict=True):
            blob.mul_(self.fraction).add_(batch)


@register("Scale")
class Scale(Layer):
    """x · s + b, s and b of the shape of bottom[0]'s axes `axis` .. `axis + num_axes − 1` (−1: to the last).

    bottom[0], top[0]: any shape.    bottom[1] (optional): s, in place of the blob.
    blobs:             s (filled with 1 by default) unless it is bottom[1], then b with `bias_term`.
    """

    bottoms = (1, 2)
    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.scale_param, tuple(bottom_shapes[0])
        scalar = bottom_shapes[1] == () if len(bottom_shapes) == 2 else p.num_axes == 0
        axis = 0 if scalar else canonical_axis(p.axis, len(shape))
        if len(bottom_shapes) == 2:
            s_shape = tuple(bottom_shapes[1])
        else:
            end = len(shape) if p.num_axes == -1 else axis + p.num_axes
            if not axis <= end <= len(shape):
                raise ValueError(
                    f"axis {p.axis} and num_axes {p.num_axes} do not fit the bottom {list(shape)}"
                )
            s_shape = shape[axis:end]
            self.add_blob(s_shape, p.filler if p.HasField("filler") else ONE)
        if s_shape != shape[axis : axis + len(s_shape)]:
            raise ValueError(
                f"the scale {list(s_shape)} does not fit the bottom {list(shape)} at axis {axis}"
            )
        if p.bias_term:
            self.add_blob(s_shape, p.bias_filler)
        self.tail = (1,) * (len(shape) - axis - len(s_shape))  # axes behind the scale's
        self.top_shapes = [shape]

    def forward(self, x, *scale):
        s, *b = [*scale, *self.blobs]
        y = x * s.reshape(s.shape + self.tail)
        return (y + b[0].reshape(b[0].shape + self.tail) if b else y,)
