"""The update op: the solver's move of many blobs in one pass over memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import backend, update_reference


@torch.no_grad()
def update(
    blobs: Sequence[Tensor],
    grads: Sequence[Tensor],
    history: Sequence[Sequence[Tensor]],
    rule: str,
    numbers: Sequence[float],
    rate: float,
    decay: float = 0.0,
    regularization: str = "L2",
    scale: float = 1.0,
    variant: str = "",
) -> None:
    """Moves blobs and history in place, by g = scale grad + decay W (L2) or decay sign(W) (L1), by the rule.

    The gradients stay as they are.

    Args:
        blobs: tensors W of one dtype and device.
        grads: a tensor like each.
        history: for each of the rule's histories, a tensor like each blob.
        rule: a name in `update_reference.RULES`, Caffe's solver type.
        numbers: the rule's own, in the order of its row there.
        rate: the learning rate of these blobs; Adam's with the bias correction in it.
        variant: a kernel of the backend by name; "" takes the best that fits.

    Raises:
        ValueError: unknown rule or regularization; a forced backend that cannot take the tensors.
        RuntimeError: tensors or numbers that do not fit together.
    """
    if rule not in update_reference.RULES:
        raise ValueError(f"unknown update rule {rule!r}; known: {', '.join(update_reference.RULES)}")
    if regularization not in ("L1", "L2"):
        raise ValueError(f"unknown regularization {regularization!r}; known: L1, L2")
    if not blobs:
        return
    blobs, history = list(blobs), [list(h) for h in history]
    if backend.choose(blobs[0]) == "reference":
        update_reference.update(
            blobs, list(grads), history, rule, numbers, rate, decay, regularization, scale
        )
        return
    flat = [h for each in history for h in each]
    alike = [_as(blob, grad) for blob, grad in zip(blobs, grads, strict=True)]
    args = ([float(v) for v in numbers], float(rate), float(decay), regularization == "L1", float(scale))
    torch.ops.crnn.update(blobs, alike, flat, rule, *args, variant)
    torch.autograd.graph.increment_version(blobs + flat)


def _as(blob: Tensor, grad: Tensor) -> Tensor:
    """`grad` in the blob's order of memory; what else does not fit is the op's to refuse."""
    alike = (grad.shape, grad.dtype, grad.device) == (blob.shape, blob.dtype, blob.device)
    moved = alike and grad.stride() != blob.stride()
    return torch.empty_like(blob).copy_(grad) if moved else grad


def _fake_update(blobs, grads, history, rule, numbers, rate, decay, l1, scale, variant=""):
    return None


if "cpu" in backend.backends():  # the schema comes with the extension
    torch.library.register_fake("crnn::update", _fake_update)
