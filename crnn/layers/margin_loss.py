"""HingeLoss and ContrastiveLoss. Caffe: src/caffe/layers/{hinge,contrastive}_loss_layer.cpp."""

import math

import torch
import torch.nn.functional as F

from .base import Layer, register, with_gradient_of
from .log_loss import check_rows, rows_and_labels


@register("HingeLoss")
class HingeLoss(Layer):
    """Σ max(0, 1 ∓ x) over N, − for the label's score, + for the others; of the squares with norm: L2.

    bottom[0]: scores [N, ...], a class an element.    bottom[1]: labels [N].    top[0]: a scalar.
    """

    bottoms = (2, 2)
    is_loss = True
    indices = (1,)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        check_rows(*bottom_shapes)
        self.square = param.hinge_loss_param.norm == param.hinge_loss_param.L2
        self.top_shapes = [()]

    def forward(self, x, label):
        rows, index = rows_and_labels(x, label)
        sign = torch.ones_like(rows).scatter(1, index[:, None], -1)
        excess = F.relu(1 + sign * rows)
        return ((excess.square() if self.square else excess).sum() / x.shape[0],)


@register("ContrastiveLoss")
class ContrastiveLoss(Layer):
    """Σ s d² + (1 − s) max(0, margin − d)² over 2N; d the distance of two rows, s whether they are alike.

    bottom[0], bottom[1]: [N, C].    bottom[2]: s [N], not 0 for a pair that is alike.    top[0]: a scalar.
    With legacy_version the last term is max(0, margin − d²). d's gradient is Caffe's, (a − b) / (d + 1e-4).
    """

    bottoms = (3, 3)
    is_loss = True
    indices = (2,)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.contrastive_loss_param
        self.margin, self.legacy = p.margin, p.legacy_version
        self.check(bottom_shapes)
        self.top_shapes = [()]

    def check(self, shapes):
        a, b, alike = map(tuple, shapes)
        vectors = 2 <= len(a) <= 4 and a == b and math.prod(a[2:]) == 1
        if not vectors or alike[:1] != a[:1] or math.prod(alike) != a[0]:
            raise ValueError(f"needs bottoms [N, C], [N, C] and [N], got {[list(shape) for shape in shapes]}")

    def forward(self, a, b, alike):
        self.check([a.shape, b.shape, alike.shape])
        squared = (a - b).flatten(1).square().sum(1)
        if self.legacy:
            apart = F.relu(self.margin - squared)
        else:
            d = squared.detach().sqrt()
            d = with_gradient_of(d, squared / (2 * (d + 1e-4)))
            apart = F.relu(self.margin - d).square()
        losses = torch.where(alike.reshape(-1).long() != 0, squared, apart)
        return (losses.sum() / (2 * a.shape[0]),)
