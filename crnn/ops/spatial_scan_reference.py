"""The definition of the spatial_scan op in plain torch: projection, scan, sum of the directions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import reference
from .plan import Direction


def spatial_scan(
    x: Tensor,
    w_ih: Tensor | None,
    bias: Tensor | None,
    w_hh: Tensor,
    plan: Sequence[Direction],
    cell: str,
    cell_params: Tensor | None = None,
    combine: str = "sum",
) -> tuple[Tensor, Tensor]:
    """y [N, P, D] and all states [S, P, N, K, D]. Arguments as `crnn.ops.spatial_scan`."""
    K = len(plan)
    if w_ih is not None:
        x = torch.einsum("pnc,kgc->pnkg", x, w_ih)
        x = (x if bias is None else x + bias).expand(-1, -1, K, -1)
    state = reference.scan(x, w_hh, plan, cell, cell_params)
    total = state[0].sum(2).transpose(0, 1)
    return {"sum": total, "mean": total / K, "concat": total[:0]}[combine], state
