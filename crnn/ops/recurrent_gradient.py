"""d W_hh of a scan: the product of each step's gate gradients with the h that W_hh multiplied there.

The steps of a direction and those before them are the same rows of the map, shifted; so the products read
views of dz and of the states, and nothing is gathered.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .plan import Direction, Pairs


def recurrent_gradient(
    dz: Tensor,
    initial: Tensor | None,
    cont: Tensor | None,
    state: Tensor,
    saved: Tensor,
    plan: Sequence[Direction],
    reset: int | None,
) -> Tensor:
    """d W_hh [K, G*D, D] in dz's dtype, summed in float32 at least.

    Args:
        dz: [P, N, K, G*D]; initial, cont, state, saved: as the op takes and gives them.
        reset: the saved value that multiplied h for the last gate's product, if there is one.
    """
    per_direction = []
    for k, direction in enumerate(plan):
        terms = []
        for pairs in direction.pairs():
            h = rows(state[0, :, :, k], pairs.before, pairs)
            terms += _terms(pairs, h, dz[:, :, k], cont, saved[:, :, k], reset)
        if initial is not None:
            first = torch.tensor(direction.starts(), device=dz.device)
            h = initial[0, :, k].expand(1, len(first), -1, -1).flatten(1, 2)
            at = [None if t is None else t[first] for t in (dz[:, :, k], cont, saved[:, :, k])]
            terms += _terms(Pairs(0, 0, len(first), 1, 0), h, *at, reset)
        zero = dz.new_zeros(dz.shape[3], state.shape[4], dtype=_sum_dtype(dz))
        per_direction.append(sum(terms, zero).to(dz.dtype))
    return torch.stack(per_direction)


def _terms(pairs, h, dz, cont, saved, reset) -> list[Tensor]:
    """The products of dz at `pairs.now` with h [batch, rows, D]; one term, [G*D, D]."""
    d = rows(dz, pairs.now, pairs)
    if cont is not None:
        h = h * rows(cont.unsqueeze(2), pairs.now, pairs)
    if reset is None:
        return [product(d, h)]
    D = h.shape[2]
    gated = h * rows(saved[:, :, reset], pairs.now, pairs)
    return [torch.cat([product(d[..., :-D], h), product(d[..., -D:], gated)])]


def rows(t: Tensor, first: int, pairs: Pairs) -> Tensor:
    """The rows of t [P, N, C] at positions first + b * stride + i as [batch, run * N, C]; a view where t's
    positions and samples are contiguous."""
    span = (pairs.batch - 1) * pairs.stride + pairs.run
    blocks = t.narrow(0, first, span).unfold(0, pairs.run, pairs.stride or pairs.run)  # [batch, N, C, run]
    return blocks.permute(0, 3, 1, 2).flatten(1, 2)


def product(a: Tensor, b: Tensor) -> Tensor:
    """The sum over batch and rows of a^T b: [batch, rows, X], [batch, rows, Y] -> [X, Y]."""
    if a.is_cuda:  # a batch is a share of the sum: views stay views, and the device has many to do at once
        wide = {} if a.dtype == _sum_dtype(a) else {"out_dtype": _sum_dtype(a)}
        return torch.bmm(a.mT, b, **wide).sum(0)
    return (a.flatten(0, 1).mT @ b.flatten(0, 1)).to(_sum_dtype(a))


def _sum_dtype(t: Tensor) -> torch.dtype:
    return torch.float32 if t.dtype.itemsize == 2 else t.dtype
