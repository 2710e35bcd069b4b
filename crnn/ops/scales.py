"""Recurrence over the scales of an image pyramid, and the pyramid (SRNN: Zhang 2018)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from .plan import plan
from .scan import scan

#: cell -> whether it has the gate z.
CELLS = {"relu": False, "half_gru": True}


def scale_rnn(
    features: Sequence[Tensor],
    u: Tensor,
    w_z: Tensor | None = None,
    u_z: Tensor | None = None,
    count: Tensor | None = None,
) -> Tensor:
    """The states h_1 ... h_n over n scales of each image, [n, N, D] (Zhang 2018, eq. 1 and 2).

        h'_s = relu(x_s + U h_{s-1})                                  without a gate this is h_s
        h_s = (1 - z_s) h_{s-1} + z_s h'_s,  z_s = σ(W_z x_s + U_z h_{s-1})

    Args:
        features: n vectors x_s of each image, [N, D], the smallest scale first.
        u: U [D, D].
        w_z, u_z: of the half-GRU's gate, [D, D]; None for the vanilla cell.
        count: [N], the scales 1 ... n that each image has; later states repeat its last. Default: n.

    Raises:
        ValueError: features that do not fit U, or a count that is not 1 ... n.
    """
    D, n = u.shape[0], len(features)
    for x in features:
        if x.dim() != 2 or x.shape[1] != D:
            raise ValueError(f"ScaleRNN: the features of a scale must be [N, {D}], got {list(x.shape)}")
    x = torch.stack(list(features))  # [n, N, D]
    if w_z is None:
        cell, z, w_hh = "relu", x, u
    else:
        cell, z, w_hh = "half_gru", torch.cat([x, x @ w_z.T], 2), torch.cat([u, u_z])
    h = scan(z.unsqueeze(2), w_hh[None], plan(("right",), 1, n, "carry"), cell).squeeze(2)
    if count is None:
        return h
    count = count.detach().long()
    if count.shape != x.shape[1:2] or ((count < 1) | (count > n)).any():
        raise ValueError(
            f"ScaleRNN: count must be a number of 1 to {n} scales an image, got {count.tolist()}"
        )
    last = torch.minimum(torch.arange(n, device=h.device)[:, None], count - 1)
    return h.gather(0, last.unsqueeze(2).expand_as(h))


def pyramid(images: Sequence[Tensor], scales: Sequence[int]) -> tuple[list[Tensor], Tensor]:
    """Each image at each scale s, bicubically resized to s x s, and how many scales each image has.

    Args:
        images: N images [C, H, W] of any sizes.
        scales: rising sides. An image has those that are not above its shorter side: none is enlarged.

    Returns:
        A tensor [N, C, s, s] a scale, zeros for an image that has not got it; the counts [N].

    Raises:
        ValueError: scales that do not rise, or an image smaller than the smallest scale.
    """
    check_scales(scales)
    counts = []
    for i, image in enumerate(images):
        side = min(image.shape[1:])
        counts.append(sum(s <= side for s in scales))
        if not counts[-1]:
            H, W = image.shape[1:]
            raise ValueError(
                f"image {i} is {H} x {W}, smaller than the smallest scale {scales[0]}: leave it out, enlarge "
                "it, or begin with a smaller scale"
            )
    levels = [
        torch.stack(
            [
                resize(image, s) if level < count else image.new_zeros(len(image), s, s)
                for image, count in zip(images, counts, strict=True)
            ]
        )
        for level, s in enumerate(scales)
    ]
    return levels, torch.tensor(counts, device=levels[0].device)


def resize(images: Tensor, side: int) -> Tensor:
    """[..., C, H, W] -> [..., C, side, side], bicubic; smoothed first where it shrinks, as Pillow does."""
    if images.shape[-2:] == (side, side):
        return images
    batch = images if images.dim() == 4 else images[None]
    resized = F.interpolate(batch, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return resized if images.dim() == 4 else resized[0]


def check_scales(scales: Sequence[int]) -> None:
    """Raises ValueError unless there are scales, each greater than the one before."""
    if not scales or scales[0] < 1 or any(a >= b for a, b in pairwise(scales)):
        raise ValueError(f"needs rising scales, as 224, 448, got {list(scales)}")
