"""Dropout. Caffe: src/caffe/layers/dropout_layer.cpp."""

import torch.nn.functional as F

from .activation import Activation
from .base import register


@register("Dropout")
class Dropout(Activation):
    """TRAIN: each element is 0 with probability dropout_ratio r, else divided by 1 − r. TEST: unchanged.

    bottom[0], top[0]: any shape, the same.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.ratio = param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise ValueError(f"dropout_ratio must be in [0, 1), got {self.ratio:g}")

    def forward(self, x):
        return (F.dropout(x, self.ratio) if self.train_phase else x,)
