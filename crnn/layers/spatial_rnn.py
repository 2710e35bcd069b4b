"""SpatialRNN: the recurrent layer of C-RNN (Zuo et al. 2015), L-RNN and C-HRNN."""

from crnn.ops import plan, spatial_rnn
from crnn.ops.reference import CELLS
from crnn.ops.spatial import COMBINE
from crnn.proto import pb

from .base import Layer, check_axes, register
from .fillers import fill

FOUR = ("right", "left", "down", "up")


@register("SpatialRNN")
class SpatialRNN(Layer):
    """h_s = cell(W_ih x_s + b, W_hh h_{s-1}) along each direction; the directions are combined.

    bottom[0]: [N, C, H, W] feature map.
    top[0]:    [N, D, H, W]; K*D channels with combine "concat".
    blobs:     W_ih [K, G*D, C], b [K, G*D] (with bias_term), W_hh [K, G*D, D]; K directions, G gates;
               with the cell ln_relu also gain [K, D], which starts at 1.
    """

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.spatial_rnn_param
        check_axes(bottom_shapes[0], 4)
        N, C, H, W = bottom_shapes[0]
        directions = tuple(p.direction) or FOUR
        plan(directions, max(H, 1), max(W, 1), p.line_break)  # refuses unknown names
        cell = "gru_tanh" if (p.cell, p.gru_activation) == ("gru", "tanh") else p.cell
        if p.gru_activation not in ("relu", "tanh"):
            raise ValueError(f"unknown gru_activation {p.gru_activation!r}; known: relu, tanh")
        for field, value, known in (("cell", cell, CELLS), ("combine", p.combine, COMBINE)):
            if value not in known:
                raise ValueError(f"unknown {field} {value!r}; known: {', '.join(known)}")
        if p.num_output < 1:
            raise ValueError("spatial_rnn_param needs num_output, the number of hidden channels D")
        self.settings = (directions, p.line_break, cell, p.combine)
        self.bias_term = p.bias_term
        K, D, rows = len(directions), p.num_output, CELLS[cell].gates * p.num_output
        self.add_directions((K, rows, C), p.weight_filler)
        if p.bias_term:
            self.add_directions((K, rows), p.bias_filler)
        self.add_directions((K, rows, D), p.recurrent_filler)
        if CELLS[cell].params:
            self.add_blob((K, D), pb.FillerParameter(type="constant", value=1))
        self.top_shapes = [(N, K * D if p.combine == "concat" else D, H, W)]

    def add_directions(self, shape, filler) -> None:
        """Appends a blob [K, ...]; the filler sees one direction's matrix at a time."""
        self.add_blob(shape)
        for matrix in self.blobs[-1].data:
            fill(matrix, filler)

    def forward(self, x):
        w_ih, *rest = self.blobs
        bias = rest.pop(0) if self.bias_term else None
        w_hh, *gain = rest
        return (spatial_rnn(x, w_ih, bias, w_hh, *self.settings, *gain),)
