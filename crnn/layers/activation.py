"""Element by element: ReLU and its relatives, Sigmoid, TanH, Swish, BNLL, AbsVal, Clip, Threshold.

Caffe: src/caffe/layers/{relu,prelu,elu,sigmoid,tanh,swish,bnll,absval,clip,threshold}_layer.cpp.
"""

import torch
import torch.nn.functional as F

from crnn.proto import pb

from .base import Layer, no_gradient, register

QUARTER = pb.FillerParameter(type="constant", value=0.25)


class Activation(Layer):
    """One value for one value.    bottom[0], top[0]: any shape, the same."""

    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = [tuple(bottom_shapes[0])]


@register("ReLU")
class ReLU(Activation):
    """max(x, 0) + negative_slope · min(x, 0); at 0 the gradient is negative_slope's.

    bottom[0], top[0]: any shape, the same.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.slope = param.relu_param.negative_slope

    def forward(self, x):
        return (F.leaky_relu(x, self.slope) if self.slope else F.relu(x),)


@register("PReLU")
class PReLU(Activation):
    """max(x, 0) + a · min(x, 0) with a learned a, 0.25 at the start; at 0 the gradient is a.

    bottom[0], top[0]: [N, C, ...], the same.    blobs: a [C], or one for all channels with `channel_shared`.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p, shape = param.prelu_param, bottom_shapes[0]
        if len(shape) < 2:
            raise ValueError(f"needs a bottom of at least 2 axes [N, C, ...], got {list(shape)}")
        self.add_blob(() if p.channel_shared else (shape[1],), p.filler if p.HasField("filler") else QUARTER)

    def forward(self, x):
        return (F.prelu(x, self.blobs[0].reshape(-1)),)


@register("ELU")
class ELU(Activation):
    """x where x > 0, else alpha · (exp(x) − 1).    bottom[0], top[0]: any shape, the same."""

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.alpha = param.elu_param.alpha

    def forward(self, x):
        return (F.elu(x, self.alpha),)


@register("Sigmoid")
class Sigmoid(Activation):
    """1 / (1 + exp(−x)).    bottom[0], top[0]: any shape, the same."""

    def forward(self, x):
        return (torch.sigmoid(x),)


@register("TanH")
class TanH(Activation):
    """tanh(x).    bottom[0], top[0]: any shape, the same."""

    def forward(self, x):
        return (torch.tanh(x),)


@register("Swish")
class Swish(Activation):
    """x · sigmoid(beta · x).    bottom[0], top[0]: any shape, the same."""

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.beta = param.swish_param.beta

    def forward(self, x):
        return (F.silu(x) if self.beta == 1 else x * torch.sigmoid(self.beta * x),)


@register("BNLL")
class BNLL(Activation):
    """log(1 + exp(x)).    bottom[0], top[0]: any shape, the same."""

    def forward(self, x):
        return (-F.logsigmoid(-x),)


@register("AbsVal")
class AbsVal(Activation):
    """|x|; at 0 the gradient is 0.    bottom[0], top[0]: any shape, the same."""

    in_place = False  # as in Caffe, which needs the sign of x in its backward

    def forward(self, x):
        return (x.abs(),)


@register("Clip")
class Clip(Activation):
    """min(max(x, clip_param.min), max); the gradient passes where min ≤ x ≤ max.

    bottom[0], top[0]: any shape, the same.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        if not param.HasField("clip_param"):
            raise ValueError("clip_param needs min and max")
        self.min, self.max = param.clip_param.min, param.clip_param.max

    def forward(self, x):
        return (x.clamp(self.min, self.max),)


@register("Threshold")
class Threshold(Activation):
    """1 where x > threshold, else 0; it has no gradient, and a backward through it is an error.

    bottom[0], top[0]: any shape, the same.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.threshold = param.threshold_param.threshold

    def forward(self, x):
        return (no_gradient((x > self.threshold).to(x.dtype), x, self),)
