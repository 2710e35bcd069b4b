"""Losses that are logarithms of probabilities: of labels, by an infogain matrix, of independent sigmoids.

Caffe: src/caffe/layers/{multinomial_logistic_loss,infogain_loss,sigmoid_cross_entropy_loss}_layer.cpp.
SoftmaxWithLoss is in loss.py.
"""

import math

import torch
import torch.nn.functional as F

from crnn.proto import pb
from crnn.proto.blobs import read_binary, to_array

from .base import Layer, check_indices, register, with_gradient_of
from .loss import Classifier, divisor, normalization

LEAST = 1e-20  # Caffe takes the logarithm of max(p, kLOG_THRESHOLD)


@register("MultinomialLogisticLoss")
class MultinomialLogisticLoss(Layer):
    """−log p[label] over N; the probabilities are given (SoftmaxWithLoss makes them from scores).

    bottom[0]: probabilities [N, ...], a class an element.    bottom[1]: labels [N].    top[0]: a scalar.
    """

    bottoms = (2, 2)
    is_loss = True
    indices = (1,)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        check_rows(*bottom_shapes)
        self.top_shapes = [()]

    def forward(self, x, label):
        rows, index = rows_and_labels(x, label)
        p = rows.gather(1, index[:, None])
        p = with_gradient_of(p.clamp(min=LEAST), p)  # bounded, Caffe's gradient is still −1 / p
        return (-p.log().sum() / x.shape[0],)


def check_rows(shape, label_shape) -> None:
    """Raises ValueError unless the bottoms are [N, ...] and a label a row."""
    if not shape or tuple(label_shape[:1]) != tuple(shape[:1]) or math.prod(label_shape) != shape[0]:
        raise ValueError(f"needs bottoms [N, ...] and labels [N], got {list(shape)} and {list(label_shape)}")


def rows_and_labels(x, label):
    """x as [N, classes] and its labels as int64 [N]; ValueError for a label that is no class."""
    check_rows(x.shape, label.shape)
    rows = x.flatten(1) if x.dim() > 1 else x[:, None]
    check_indices("label", label.reshape(-1), rows.shape[1], "classes")
    return rows, label.reshape(-1).long()


@register("InfogainLoss")
class InfogainLoss(Classifier):
    """−Σ_l H[label, l] · log softmax(x)[l], divided as SoftmaxWithLoss.

    bottom[0]: scores, classes along infogain_loss_param.axis (default 1).    bottom[1]: labels.
    bottom[2] (optional): H, L·L values for L classes; else it is the BlobProto file `source`.
    top[0]:    the loss, a scalar.    top[1] (optional): the softmax.
    """

    bottoms = (2, 3)
    is_loss = True

    def __init__(self, param, bottom_shapes):
        p = param.infogain_loss_param
        super().__init__(param, bottom_shapes[:2], p.axis, param.loss_param)
        if param.loss_param.HasField("normalize"):
            raise ValueError("normalize is deprecated: use normalization")
        self.normalization = normalization(param.loss_param)
        self.top_shapes = [(), tuple(bottom_shapes[0])][: len(param.top)]
        if len(bottom_shapes) < 3 and not p.source:
            raise ValueError("needs infogain_loss_param.source, a BlobProto file, or H as bottom[2]")
        if len(bottom_shapes) < 3:
            matrix = torch.from_numpy(to_array(read_binary(p.source, pb.BlobProto)))
            self.register_buffer("matrix", matrix, persistent=False)
        values = math.prod(bottom_shapes[2] if len(bottom_shapes) > 2 else self.matrix.shape)
        if values != self.classes**2:
            raise ValueError(f"H needs {self.classes}² values for {self.classes} classes, got {values}")

    def forward(self, x, label, matrix=None):
        scores, index, counted = self.places(x, label)
        matrix = (self.matrix if matrix is None else matrix.detach()).reshape(self.classes, self.classes)
        logs = F.log_softmax(scores, 1)  # [outer, classes, inner]
        logs = with_gradient_of(logs.clamp(min=math.log(LEAST)), logs)
        losses = -(matrix.to(logs.dtype)[index].movedim(2, 1) * logs).sum(1)
        loss = torch.where(counted, losses, 0).sum() / divisor(self.normalization, counted)
        return (loss, F.softmax(x, self.axis))[: len(self.top_shapes)]


@register("SigmoidCrossEntropyLoss")
class SigmoidCrossEntropyLoss(Layer):
    """−Σ t log σ(x) + (1 − t) log(1 − σ(x)), divided by N, or as `normalization` says.

    bottom[0]: scores [N, ...].    bottom[1]: targets in 0..1, as many; one that is `ignore_label` does not
    count.    top[0]: a scalar.
    """

    bottoms = (2, 2)
    is_loss = True

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.loss_param
        self.normalization = normalization(p, default=p.BATCH_SIZE)
        self.ignore = p.ignore_label if p.HasField("ignore_label") else None
        a, b = bottom_shapes
        if not a or not b or a[0] != b[0] or math.prod(a) != math.prod(b):
            raise ValueError(f"needs two bottoms [N, ...] of equal size, got {list(a)} and {list(b)}")
        self.top_shapes = [()]

    def forward(self, x, target):
        target = target.detach().to(x.dtype).reshape(x.shape)
        counted = torch.ones_like(x, dtype=torch.bool) if self.ignore is None else target.int() != self.ignore
        losses = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        return (torch.where(counted, losses, 0).sum() / divisor(self.normalization, counted),)
