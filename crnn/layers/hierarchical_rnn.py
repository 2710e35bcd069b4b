"""HierarchicalRNN: SpatialRNNs on a pyramid of one map, with links between its scales (C-HRNN-style)."""

from itertools import pairwise

import torch
import torch.nn.functional as F

from crnn.ops import spatial_rnn
from crnn.proto import pb

from .base import Layer, check_axes, register
from .spatial_rnn import SpatialRNN

#: link -> the step through the scales, given fine to coarse; None: they do not see each other.
LINKS = {"coarse_to_fine": -1, "fine_to_coarse": 1, "none": None}


@register("HierarchicalRNN")
class HierarchicalRNN(Layer):
    """A SpatialRNN on each grid of a max-pooled pyramid; each also reads the states of the grid before it.

        h_1 = SpatialRNN(pool_1(x))    h_l = SpatialRNN(pool_l(x), parent h_{l-1})    l in the order of `link`

    Of Zuo 2016 the abstract alone is known: grids, links and their form are ours. HSRN has relu cells, HLSTM
    lstm cells, where the parents' W_cs h enters all four gates.

    bottom[0]:  [N, C, H, W]; each `scale` s divides H and W, and stands for a grid of s x s.
    top[0]:     [N, Σ D*s*s], the maps [D, s, s] one behind the other in the order of `scale`; K*D channels
                with combine "concat".
    blobs:      SpatialRNN's with an axis of the L scales in front: W_ih [L, K, G*D, C], b [L, K, G*D], W_hh
                [L, K, G*D, D], gain [L, K, D]; unless link is "none" W_cs [L-1, K, G*D, D], one for each two
                neighbours, the finest first.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        check_axes(bottom_shapes[0], 4)
        p, (N, C, *grid) = param.hierarchical_rnn_param, bottom_shapes[0]
        self.scales = list(p.scale)
        if not self.scales or self.scales[-1] < 1 or any(a <= b for a, b in pairwise(self.scales)):
            raise ValueError(f"needs falling scales, as scale: [6, 3, 2, 1], got {self.scales}")
        if p.link not in LINKS:
            raise ValueError(f"unknown link {p.link!r}; known: {', '.join(LINKS)}")
        self.check_grid(*grid)
        self.link = LINKS[p.link]
        part = pb.LayerParameter(top=["h"], spatial_rnn_param=param.spatial_rnn_param)
        rnns = [SpatialRNN(part, [(N, C, s, s)]) for s in self.scales]
        D = rnns[0].top_shapes[0][1]
        self.settings, self.roles = rnns[0].settings, rnns[0].roles
        for blobs in zip(*(rnn.blobs for rnn in rnns), strict=True):
            self.stack(blobs)
        if self.link and len(rnns) > 1:
            linked = [SpatialRNN(part, [(N, C, s, s), (N, D, s, s)]) for s in self.scales[1:]]
            self.stack([rnn.blobs[-1] for rnn in linked])
        self.top_shapes = [(N, D * sum(s * s for s in self.scales))]

    def stack(self, blobs) -> None:
        """Appends a blob [L, ...] of those of L layers."""
        self.add_blob((len(blobs), *blobs[0].shape))
        self.blobs[-1].data.copy_(torch.stack(list(blobs)))

    def check_grid(self, H: int, W: int) -> None:
        """Raises ValueError if a scale does not divide the map."""
        for s in self.scales:
            if H % s or W % s:
                raise ValueError(f"scale {s} does not divide the map {H} x {W}; give divisors of its sides")

    def forward(self, x):
        self.check_grid(*x.shape[2:])
        levels = list(range(len(self.scales)))
        maps, before = [None] * len(levels), None
        for i in levels[:: self.link or 1]:
            named = {role: blob[i] for role, blob in zip(self.roles, self.blobs, strict=False)}
            if before is not None:
                named |= {"parents": [maps[before]], "w_cs": [self.blobs[-1][min(i, before)]]}
            maps[i] = spatial_rnn(
                self.pool(x, self.scales[i]), **{"w_ih": None, "bias": None, **named}, **self.settings
            )
            before = i if self.link else None
        return (torch.cat([h.flatten(1) for h in maps], 1),)

    def pool(self, x, s: int):
        """x in s x s windows, the greatest value of each (Pooling with pool MAX, kernel and stride H / s)."""
        kernel = x.shape[2] // s, x.shape[3] // s
        return x if kernel == (1, 1) else F.max_pool2d(x, kernel)
