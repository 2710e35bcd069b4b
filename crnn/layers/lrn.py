"""LRN, local response normalisation. Caffe: src/caffe/layers/lrn_layer.cpp."""

from crnn.ops import lrn

from .base import Layer, check_axes, register


@register("LRN")
class LRN(Layer):
    """ACROSS_CHANNELS: x (k + α/n Σ x²)^−β over n channels.  WITHIN_CHANNEL: x (1 + α mean x²)^−β over n × n.

    bottom[0], top[0]: [N, C, H, W]. n is `local_size`, an odd number. WITHIN_CHANNEL's mean counts the zeros
    beyond the edge, and it does not read `k`.
    """

    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.lrn_param
        check_axes(bottom_shapes[0], 4)
        if p.local_size % 2 == 0:
            raise ValueError(f"local_size must be odd, got {p.local_size}")
        self.size, self.alpha, self.beta, self.k = p.local_size, p.alpha, p.beta, p.k
        self.within = p.norm_region == p.WITHIN_CHANNEL
        self.top_shapes = [tuple(bottom_shapes[0])]

    def forward(self, x):
        k = 1.0 if self.within else self.k
        return (lrn(x, self.size, self.alpha, self.beta, k, self.within),)
