"""SpatialRNN: the recurrent layer of C-RNN (Zuo et al. 2015), L-RNN and C-HRNN."""

from dataclasses import dataclass

from torch import Tensor

from crnn.ops import plan, scan, spatial_rnn, windows
from crnn.ops.reference import CELLS
from crnn.ops.spatial import COMBINE, check_input, combined, spatial_input
from crnn.proto import pb

from .base import Layer, check_axes, register
from .fillers import fill

FOUR = ("right", "left", "down", "up")


@dataclass
class Window:
    """The window that learns; `states` are what the windows before left, None at the start of a batch."""

    index: int
    states: Tensor | None = None


@register("SpatialRNN")
class SpatialRNN(Layer):
    """h_s = cell(W_ih x_s + b, W_hh h_{s-1}) along each direction; the directions are combined.

    bottom[0]:  [N, C, H, W] feature map; with project_input: false W_ih x + b itself, [N, G*D, H, W].
    bottom[1…]: [N, D', H', W'] maps of other scales, the parents: resized, times W_cs, added (C-HRNN-style).
    top[0]:     [N, D, H, W]; K*D channels with combine "concat".
    blobs:      W_ih [K, G*D, C], b [K, G*D] (with bias_term; neither with project_input: false; K = 1 with
                share_input), W_hh [K, G*D, D]; K directions, G gates; with the cell ln_relu gain [K, D],
                which starts at 1; then a W_cs [K, G*D, D'] for each parent.

    While `window` is set (by the solver, for window_update), only that window of each direction is computed
    with gradient; the other regions' states pass on as they are (Zuo 2015, section 3.2.3).
    """

    bottoms = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.spatial_rnn_param
        for shape in bottom_shapes:
            check_axes(shape, 4)
        N, C, H, W = bottom_shapes[0]
        directions = tuple(p.direction) or FOUR
        plan(directions, max(H, 1), max(W, 1), p.line_break)  # refuses unknown names
        cell = "gru_tanh" if (p.cell, p.gru_activation) == ("gru", "tanh") else p.cell
        if p.gru_activation not in ("relu", "tanh"):
            raise ValueError(f"unknown gru_activation {p.gru_activation!r}; known: relu, tanh")
        for field, value, known in (("cell", cell, CELLS), ("combine", p.combine, COMBINE)):
            if value not in known:
                raise ValueError(f"unknown {field} {value!r}; known: {', '.join(known)}")
        if p.future_state not in windows.FUTURE:
            raise ValueError(f"unknown future_state {p.future_state!r}; known: {', '.join(windows.FUTURE)}")
        if p.num_output < 1:
            raise ValueError("spatial_rnn_param needs num_output, the number of hidden channels D")
        K, D, rows = len(directions), p.num_output, CELLS[cell].gates * p.num_output
        check_input(C, rows, p.project_input, p.share_input)
        self.settings = {
            "directions": directions,
            "line_break": p.line_break,
            "cell": cell,
            "combine": p.combine,
        }
        self.future_state, self.regions = p.future_state, H * W
        self.window: Window | None = None
        inputs = 1 if p.share_input else K
        # Which arguments of `spatial_rnn` the blobs are, in their order.
        self.roles = []
        if p.project_input:
            self.add_directions("w_ih", (inputs, rows, C), p.weight_filler)
        if p.project_input and p.bias_term:
            self.add_directions("bias", (inputs, rows), p.bias_filler)
        self.add_directions("w_hh", (K, rows, D), p.recurrent_filler)
        if CELLS[cell].params:
            self.add_directions("gain", (K, D), pb.FillerParameter(type="constant", value=1))
        for parent in bottom_shapes[1:]:
            self.add_directions("w_cs", (K, rows, parent[1]), p.cross_filler)
        self.top_shapes = [(N, K * D if p.combine == "concat" else D, H, W)]

    def add_directions(self, role, shape, filler) -> None:
        """Appends a blob [K, ...]; the filler sees one direction's matrix at a time."""
        self.roles.append(role)
        self.add_blob(shape)
        for matrix in self.blobs[-1].data:
            fill(matrix, filler)

    def forward(self, x, *parents):
        if self.window is None:
            return (spatial_rnn(x, **self.named_blobs(), **self.settings, parents=parents),)
        return (self.forward_window(x, parents),)

    def named_blobs(self) -> dict:
        """The blobs as arguments of `spatial_rnn`."""
        named = {"w_ih": None, "bias": None, "w_cs": []}
        for role, blob in zip(self.roles, self.blobs, strict=True):
            if role == "w_cs":
                named[role].append(blob)
            else:
                named[role] = blob
        return named

    def states(self, x, *parents) -> Tensor:
        """h of each direction before they are combined, [P, N, K, D]; positions row by row."""
        return scan(*self.scan_input(x, parents))

    def scan_input(self, x, parents) -> tuple:
        """What `scan` takes: z [P, N, K, G*D], W_hh, the plan, the cell and its parameters."""
        named = self.named_blobs()
        z, params = spatial_input(x, **named, parents=parents)
        order = plan(self.settings["directions"], *x.shape[2:], self.settings["line_break"])
        return z, named["w_hh"], order, self.settings["cell"], params

    def count_windows(self) -> int:
        """Lines of every direction. Raises ValueError if they differ."""
        H, W = self.top_shapes[0][2:]
        return windows.count(plan(self.settings["directions"], H, W, self.settings["line_break"]))

    def open_window(self, index: int) -> None:
        """From now on window `index` of a new batch learns; `window = None` ends it."""
        self.window = Window(index)

    def forward_window(self, x, parents):
        """The map with one window computed anew; leaves its states for the next."""
        scan_input, window = self.scan_input(x, parents), self.window
        if window.states is None:
            window.states = windows.start(*scan_input, window.index, self.future_state, x)
        states = windows.step(*scan_input, window.index, window.states)
        window.states = states.detach()
        return combined(states[0], self.settings["combine"], *x.shape[2:])

    def uses(self, index: int) -> int:
        """Layers that share the blob in the unrolled net: one a region; for gain and W_cs, one."""
        return self.regions if self.roles[index] in ("w_ih", "bias", "w_hh") else 1
