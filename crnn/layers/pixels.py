"""Mean and scale of transform_param, applied to a batch of pixels on the device that has the net."""

import torch
from torch import Tensor


def values(pixels: Tensor, places: Tensor, mean: Tensor | None, scale: float) -> Tensor:
    """float32 [N, C, h, w]: (pixel - mean at its place in the whole record) * scale.

    To the bit what crnn.data.transformer computes (Caffe: src/caffe/data_transformer.cpp).

    Args:
        pixels: uint8 [N, C, h, w], cut and mirrored.
        places: int64 [N, 3], (mirrored, row, column) of each crop in its record.
        mean: float32 [C, H, W] of whole records, [C, 1, 1] a value a channel, or None.
    """
    data = pixels.float()
    if mean is not None:
        data -= mean if mean.shape[1:] == (1, 1) else _seen(mean, places, *pixels.shape[2:])
    if scale != 1:
        data *= scale
    return data


def _seen(mean: Tensor, places: Tensor, h: int, w: int) -> Tensor:
    """[N, C, h, w]: the mean image cut and mirrored as each record."""
    mirrored, y, x = (column[:, None] for column in places.unbind(1))
    rows, columns = y + torch.arange(h, device=y.device), torch.arange(w, device=x.device)
    columns = x + torch.where(mirrored.bool(), w - 1 - columns, columns)
    return mean[:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)
