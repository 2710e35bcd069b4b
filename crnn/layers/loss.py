"""Losses and Accuracy. Caffe: src/caffe/layers/{softmax_loss,euclidean_loss,accuracy,softmax}_layer.cpp."""

import math

import torch
import torch.nn.functional as F

from .base import Layer, canonical_axis, check_indices, register, with_gradient_of

LARGEST_LOSS = -math.log(torch.finfo(torch.float32).tiny)  # Caffe takes the logarithm of max(p, FLT_MIN)


@register("Softmax")
class Softmax(Layer):
    """exp(x) / Σ exp(x) along `axis` (default 1).    bottom[0], top[0]: any shape, the same."""

    in_place = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.axis = canonical_axis(param.softmax_param.axis, len(bottom_shapes[0]))
        self.top_shapes = [tuple(bottom_shapes[0])]

    def forward(self, x):
        return (F.softmax(x, self.axis),)


class Classifier(Layer):
    """What reads scores (bottom[0], classes along `axis`) and a label a place (bottom[1])."""

    bottoms = (2, 2)
    tops = (1, 2)
    indices = (1,)

    def __init__(self, param, bottom_shapes, axis: int, options):
        super().__init__(param, bottom_shapes)
        shape, label_shape = bottom_shapes
        self.axis = canonical_axis(axis, len(shape))
        self.classes = shape[self.axis]
        self.ignore = options.ignore_label if options.HasField("ignore_label") else None
        self.check_places(shape, label_shape)

    def check_places(self, shape, label_shape) -> None:
        outer, inner = math.prod(shape[: self.axis]), math.prod(shape[self.axis + 1 :])
        if math.prod(label_shape) != outer * inner:
            raise ValueError(
                f"needs one label for each of {outer} x {inner} predictions: the scores are {list(shape)} "
                f"with classes on axis {self.axis}, the labels {list(label_shape)}"
            )

    def places(self, x, label):
        """x as [outer, classes, inner]; labels as int64 [outer, inner], 0 if ignored; the mask of the rest.

        Raises ValueError for a label that is no class.
        """
        self.check_places(x.shape, label.shape)
        outer, inner = math.prod(x.shape[: self.axis]), math.prod(x.shape[self.axis + 1 :])
        classes, index = x.shape[self.axis], label.reshape(outer, inner).long()
        counted = torch.ones_like(index, dtype=torch.bool) if self.ignore is None else index != self.ignore
        check_indices("label", label.reshape(outer, inner), classes, "classes", counted)
        return x.reshape(outer, classes, inner), torch.where(counted, index, 0), counted


@register("SoftmaxWithLoss")
class SoftmaxWithLoss(Classifier):
    """−log softmax(x)[label], summed and divided as `loss_param.normalization` says.

    bottom[0]: scores, classes along softmax_param.axis (default 1).    bottom[1]: labels, a value a place.
    top[0]: the loss, a scalar.    top[1] (optional): the softmax.
    Divisor: FULL all places; VALID (default) those whose label is not `ignore_label`; BATCH_SIZE the sizes
    before `axis` multiplied; NONE 1; at least 1. The old `normalize`: true is VALID, false BATCH_SIZE.
    """

    is_loss = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes, param.softmax_param.axis, param.loss_param)
        self.normalization = normalization(param.loss_param)
        self.top_shapes = [(), tuple(bottom_shapes[0])][: len(param.top)]
        self.second_top = len(param.top) > 1

    def forward(self, x, label):
        scores, index, counted = self.places(x, label)
        losses = -F.log_softmax(scores, 1).gather(1, index[:, None]).squeeze(1)
        # Caffe bounds the value only: the gradient stays that of the unbounded loss.
        losses = with_gradient_of(losses.clamp(max=LARGEST_LOSS), losses)
        loss = torch.where(counted, losses, 0).sum() / divisor(self.normalization, counted)
        return (loss, F.softmax(x, self.axis)) if self.second_top else (loss,)


def normalization(p, default: int | None = None) -> str:
    """FULL, VALID, BATCH_SIZE or NONE as a LossParameter says; the old `normalize`: VALID or BATCH_SIZE."""
    if p.HasField("normalize") and not p.HasField("normalization"):
        return "VALID" if p.normalize else "BATCH_SIZE"
    unset = default is not None and not p.HasField("normalization")
    return p.NormalizationMode.Name(default if unset else p.normalization)


def divisor(mode: str, counted):
    """What a loss is divided by, at least 1; `counted`: which of [N, places] count."""
    if mode == "VALID":
        return counted.sum().clamp(min=1)
    fixed = {"FULL": counted.numel(), "BATCH_SIZE": counted.shape[0], "NONE": 1}
    return max(1, fixed[mode])


@register("Accuracy")
class Accuracy(Classifier):
    """Share of places whose label is among the `top_k` best scores; a tie with another class counts as worse.

    bottom[0]: scores, classes along `axis` (default 1).    bottom[1]: labels.
    top[0]: a scalar.    top[1] (optional): the share of each class [classes]. 0 where nothing counts.
    """

    def __init__(self, param, bottom_shapes):
        p = param.accuracy_param
        super().__init__(param, bottom_shapes, p.axis, p)
        self.top_k = p.top_k
        if not 1 <= self.top_k <= self.classes:
            raise ValueError(f"top_k {self.top_k} is not within 1 and the {self.classes} classes")
        self.top_shapes = [(), (self.classes,)][: len(param.top)]
        self.second_top = len(param.top) > 1

    @torch.no_grad()
    def forward(self, x, label):
        scores, index, counted = self.places(x, label)
        others = (scores >= scores.gather(1, index[:, None])).sum(1) - 1
        correct = counted & (others < self.top_k)
        dtype = scores.dtype if scores.is_floating_point() else torch.float32
        accuracy = (correct.sum() / counted.sum().clamp(min=1)).to(dtype)
        if not self.second_top:
            return (accuracy,)
        total, right = (torch.bincount(index[mask], minlength=self.classes) for mask in (counted, correct))
        return accuracy, (right / total.clamp(min=1)).to(dtype)


@register("EuclideanLoss")
class EuclideanLoss(Layer):
    """Σ (a − b)² / 2N.    bottom[0], bottom[1]: [N, ...], of equal size.    top[0]: a scalar."""

    bottoms = (2, 2)
    is_loss = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        a, b = bottom_shapes
        if not a or not b or a[0] != b[0] or math.prod(a) != math.prod(b):
            raise ValueError(f"needs two bottoms [N, ...] of equal size, got {list(a)} and {list(b)}")
        self.top_shapes = [()]

    def forward(self, a, b):
        if a.shape[0] != b.shape[0] or a.numel() != b.numel():
            raise ValueError(
                f"needs two bottoms [N, ...] of equal size, got {list(a.shape)} and {list(b.shape)}"
            )
        difference = a.flatten() - b.flatten()
        return (torch.dot(difference, difference) / (2 * max(1, a.shape[0])),)
