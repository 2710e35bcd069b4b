"""The spatial recurrent layer as one function: projection, scan, combination of the directions."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .plan import LineBreak, plan
from .scan import scan

COMBINE = ("sum", "mean", "concat")


def spatial_rnn(
    x: Tensor,
    w_ih: Tensor,
    bias: Tensor | None,
    w_hh: Tensor,
    directions: Sequence[str],
    line_break: LineBreak | str = "carry_value",
    cell: str = "relu",
    combine: str = "sum",
    gain: Tensor | None = None,
) -> Tensor:
    """h_s = cell(W_ih x_s + b, W_hh h_{s-1}) along each direction, then the directions combined (Zuo 2015,
    eq. 3-7).

    Args:
        x: [N, C, H, W].
        w_ih: [K, G*D, C]; bias: [K, G*D] or None; w_hh: [K, G*D, D].
        directions: K names of `crnn.ops.plan.ORDERS`; line_break: `crnn.ops.plan.LineBreak` or its name.
        gain: [K, D], of the cell ln_relu alone; there `bias` is added after the normalisation, not to z.
        combine: "sum", "mean" or "concat" (channels, in the order of the directions).

    Returns:
        [N, D, H, W], or [N, K*D, H, W] for concat; channels innermost in memory.

    Raises:
        ValueError: an unknown name, or an x that is not [N, C, H, W] with w_ih's C.
    """
    if x.dim() != 4 or x.shape[1] != w_ih.shape[2]:
        raise ValueError(f"SpatialRNN: the map must be [N, {w_ih.shape[2]}, H, W], got {list(x.shape)}")
    if combine not in COMBINE:
        raise ValueError(f"unknown combine {combine!r}; known: {', '.join(COMBINE)}")
    (N, _, H, W), (K, GD, _) = x.shape, w_ih.shape
    order = plan(directions, H, W, line_break)
    regions = x.flatten(2).transpose(1, 2)  # [N, P, C]
    params = None
    if gain is not None:  # [K, 2, D]
        params, bias = torch.stack([gain, torch.zeros_like(gain) if bias is None else bias], 1), None
    z = F.linear(regions, w_ih.flatten(0, 1), None if bias is None else bias.flatten())  # [N, P, K*G*D]
    h = scan(z.view(N, H * W, K, GD).transpose(0, 1), w_hh, order, cell, params)  # [P, N, K, D]
    h = h.flatten(2) if combine == "concat" else h.sum(2) if combine == "sum" else h.mean(2)
    return h.permute(1, 2, 0).unflatten(2, (H, W))
