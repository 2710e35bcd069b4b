"""ScaleRNN as an nn.Module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crnn.ops.scales import CELLS, scale_rnn


class ScaleRNN(nn.Module):
    """Recurrence over the scales of an image (Zhang 2018, eq. 1 and 2).

        h_s = relu(x_s + U h_{s-1}), or the half-GRU    x_s: a CNN's vector of the image at scale s

    Args:
        num_features: D.
        cell: "relu" or "half_gru".

    Parameters: weight_hh (U) [D, D], at first the identity; for half_gru also weight_z and weight_hz (W_z and
    U_z) [D, D], at first 0.
    """

    def __init__(self, num_features: int, cell: str = "relu"):
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"unknown cell {cell!r}; known: {', '.join(CELLS)}")
        D = num_features
        self.cell = cell
        self.weight_hh = nn.Parameter(torch.eye(D))
        self.weight_z = nn.Parameter(torch.zeros(D, D)) if CELLS[cell] else None
        self.weight_hz = nn.Parameter(torch.zeros(D, D)) if CELLS[cell] else None

    def forward(self, features: Sequence[Tensor], count: Tensor | None = None) -> Tensor:
        """x_1 ... x_n [N, D] -> h_1 ... h_n [n, N, D], of any n; the last is what a classifier reads.

        count: [N], how many of the scales each image has (`crnn.ops.scales.pyramid` gives it).
        """
        return scale_rnn(features, self.weight_hh, self.weight_z, self.weight_hz, count)

    def extra_repr(self) -> str:
        return f"{len(self.weight_hh)}, cell={self.cell!r}"
