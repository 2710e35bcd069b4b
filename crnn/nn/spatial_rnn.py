"""SpatialRNN as an nn.Module."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crnn.ops import LineBreak, plan, spatial_rnn
from crnn.ops.reference import CELLS
from crnn.ops.spatial import COMBINE, check_input


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
        project_input: if not, x is W_ih x + b itself, the same for every direction: C = G*D, no weight_ih, no
            bias (L-RNN after a convolution: Xie 2016, section 5.2.2).
        share_input: one W_ih and b for all directions, computed once: K = 1 in their shapes.
        parent_channels: the channels D' of each further map that `forward` takes, the states of another
            scale (C-HRNN-style): resized to x's grid, multiplied by its W_cs and added to W_ih x + b.

    Parameters: weight_ih [K, G*D, C], bias [K, G*D], weight_hh [K, G*D, D] for G gates; the cell ln_relu also
    gain [K, D], which starts at 1; weight_cs, a list of [K, G*D, D']. The others start as W_ih uniform in
    ±sqrt(3 / C) / K (Caffe's xavier, shared among the directions), b = 0, W_hh = 0, W_cs = 0: at first the
    layer is a 1x1 convolution per direction, whatever the size of the map, and learns to look around.

    Raises:
        ValueError: an unknown name, a size below 1, or settings that contradict each other.
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
        project_input: bool = True,
        share_input: bool = False,
        parent_channels: Sequence[int] = (),
    ):
        super().__init__()
        if min(in_channels, num_output, *parent_channels) < 1:
            sizes = f"in_channels {in_channels}, num_output {num_output}, parent_channels {parent_channels}"
            raise ValueError(f"SpatialRNN: {sizes}: each must be at least 1")
        if cell not in CELLS:
            raise ValueError(f"unknown cell {cell!r}; known: {', '.join(CELLS)}")
        if combine not in COMBINE:
            raise ValueError(f"unknown combine {combine!r}; known: {', '.join(COMBINE)}")
        plan(directions, 1, 1, line_break)  # refuses unknown names now rather than at the first forward
        self.directions, self.cell, self.combine = tuple(directions), cell, combine
        self.line_break = line_break.name.lower() if isinstance(line_break, LineBreak) else line_break
        K, D, rows = len(self.directions), num_output, CELLS[cell].gates * num_output
        check_input(in_channels, rows, project_input, share_input)
        inputs, bias = 1 if share_input else K, bias and project_input
        self.weight_ih = nn.Parameter(torch.empty(inputs, rows, in_channels)) if project_input else None
        self.bias = nn.Parameter(torch.empty(inputs, rows)) if bias else None
        self.weight_hh = nn.Parameter(torch.empty(K, rows, D))
        self.gain = nn.Parameter(torch.empty(K, D)) if CELLS[cell].params else None
        self.parents = len(parent_channels)
        self.weight_cs = nn.ParameterList([torch.empty(K, rows, C) for C in parent_channels])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Fills the parameters as the class says."""
        if self.weight_ih is not None:
            bound = (3 / self.weight_ih.shape[2]) ** 0.5 / len(self.directions)
            nn.init.uniform_(self.weight_ih, -bound, bound)
        for zero in (self.weight_hh, self.bias, *self.weight_cs):
            if zero is not None:
                nn.init.zeros_(zero)
        if self.gain is not None:
            nn.init.ones_(self.gain)

    def forward(self, x: Tensor, *parents: Tensor) -> Tensor:
        """[N, C, H, W], and one [N, D', H', W'] for each of parent_channels -> [N, D, H, W]."""
        if len(parents) != self.parents:
            wanted = f"{self.parents} parent maps (parent_channels)"
            raise ValueError(f"SpatialRNN: takes {wanted} after x, got {len(parents)}")
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
            parents,
            tuple(self.weight_cs) if parents else (),  # torch 2.10 cannot compile its unpacking
        )

    def extra_repr(self) -> str:
        K, rows, D = self.weight_hh.shape
        C = rows if self.weight_ih is None else self.weight_ih.shape[2]
        extra = ", project_input=False" if self.weight_ih is None else ""
        if self.weight_ih is not None and len(self.weight_ih) < K:
            extra = ", share_input=True"
        if len(self.weight_cs):
            extra += f", parent_channels={[w.shape[2] for w in self.weight_cs]}"
        return (
            f"{C}, {D}, directions={self.directions}, line_break={self.line_break!r}, cell={self.cell!r}, "
            f"combine={self.combine!r}, bias={self.bias is not None}{extra}"
        )
