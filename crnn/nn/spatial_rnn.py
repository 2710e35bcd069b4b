"""SpatialRNN as an nn.Module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crnn.ops import LineBreak, plan, spatial_rnn
from crnn.ops.reference import CELLS
from crnn.ops.spatial import COMBINE


class SpatialRNN(nn.Module):
    """Recurrent scans over a feature map, [N, C, H, W] -> [N, D, H, W] (C-RNN: Zuo 2015; L-RNN: Xie 2016).

        h_s = cell(W_ih x_s + b, W_hh h_{s-1})    along each direction; the directions are combined

    Args:
        in_channels: C.
        num_output: D.
        directions: of "right", "left", "down", "up", "mirror_left", "mirror_up"; K of them.
        line_break: what a row (or column) inherits from the one before: "carry_value" (the state; the
            gradient is cut: C-RNN), "carry" (state and gradient), "reset" (nothing: L-RNN).
        cell: "relu", "tanh", "ln_relu", "gru", "gru_tanh", "lstm" or "half_gru" (`crnn.ops.reference`).
        combine: "sum", "mean", or "concat" (then K*D channels come out).
        bias: whether b is added.

    Parameters: weight_ih [K, G*D, C], bias [K, G*D], weight_hh [K, G*D, D] for G gates; the cell ln_relu also
    gain [K, D], which starts at 1. The others start as W_ih uniform in ±sqrt(3 / C) / K (Caffe's xavier,
    shared among the directions), b = 0, W_hh = 0: at first the layer is a 1x1 convolution per direction,
    whatever the size of the map, and learns to look around.

    Raises:
        ValueError: an unknown name, or a size below 1.
    """

    def __init__(
        self,
        in_channels: int,
        num_output: int,
        directions: Sequence[str] = ("right", "left", "down", "up"),
        line_break: str = "carry_value",
        cell: str = "relu",
        combine: str = "sum",
        bias: bool = True,
    ):
        super().__init__()
        if in_channels < 1 or num_output < 1:
            raise ValueError(
                f"SpatialRNN: in_channels {in_channels} and num_output {num_output} must be at least 1"
            )
        if cell not in CELLS:
            raise ValueError(f"unknown cell {cell!r}; known: {', '.join(CELLS)}")
        if combine not in COMBINE:
            raise ValueError(f"unknown combine {combine!r}; known: {', '.join(COMBINE)}")
        plan(directions, 1, 1, line_break)  # refuses unknown names now rather than at the first forward
        self.directions, self.cell, self.combine = tuple(directions), cell, combine
        self.line_break = line_break.name.lower() if isinstance(line_break, LineBreak) else line_break
        K, D, rows = len(self.directions), num_output, CELLS[cell].gates * num_output
        self.weight_ih = nn.Parameter(torch.empty(K, rows, in_channels))
        self.bias = nn.Parameter(torch.empty(K, rows)) if bias else None
        self.weight_hh = nn.Parameter(torch.empty(K, rows, D))
        self.gain = nn.Parameter(torch.empty(K, D)) if CELLS[cell].params else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fills the parameters as the class says."""
        K, _, C = self.weight_ih.shape
        bound = (3 / C) ** 0.5 / K
        nn.init.uniform_(self.weight_ih, -bound, bound)
        nn.init.zeros_(self.weight_hh)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.gain is not None:
            nn.init.ones_(self.gain)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, D, H, W]."""
        return spatial_rnn(
            x,
            self.weight_ih,
            self.bias,
            self.weight_hh,
            self.directions,
            self.line_break,
            self.cell,
            self.combine,
            self.gain,
        )

    def extra_repr(self) -> str:
        C = self.weight_ih.shape[2]
        return (
            f"{C}, {self.weight_hh.shape[2]}, directions={self.directions}, line_break={self.line_break!r}, "
            f"cell={self.cell!r}, combine={self.combine!r}, bias={self.bias is not None}"
        )
