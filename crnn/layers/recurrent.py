"""Caffe's RNN and LSTM over sequences, and LSTMUnit, a step of the latter.

Caffe: src/caffe/layers/{recurrent,rnn,lstm,lstm_unit}_layer.cpp.
"""

import math

import torch
import torch.nn.functional as F

from crnn.ops import plan
from crnn.ops.reference import CELLS
from crnn.ops.scan import scan_states

from .base import Layer, register


class Recurrent(Layer):
    """States s_t = cell(W_x x_t + b + W_static x_static, W_h (cont_t s_{t-1})) over T steps of N sequences.

    s_0 is what the batch before left behind (zeros at first), or the exposed bottoms; no gradient goes into
    either, nor comes back from the exposed tops. The state is no blob: no .caffemodel holds it.
    """

    bottoms = (2, None)
    tops = (1, None)
    cell: str  # in crnn.ops.reference.CELLS

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.p = param.recurrent_param
        if self.p.num_output < 1:
            raise ValueError("recurrent_param.num_output must be at least 1")
        self.states, self.gates = CELLS[self.cell].states, CELLS[self.cell].gates
        exposed = self.states if self.p.expose_hidden else 0
        T, N = self.check_shapes(bottom_shapes, exposed, len(param.top))
        D, rows = self.p.num_output, self.gates * self.p.num_output
        self.add_blob((rows, math.prod(bottom_shapes[0][2:])), self.p.weight_filler)
        self.add_blob((rows,), self.p.bias_filler)
        if self.static:
            self.add_blob((rows, math.prod(bottom_shapes[2][1:])), self.p.weight_filler)
        self.add_blob((rows, D), self.p.weight_filler)
        self.register_buffer("carried", torch.zeros(self.states, N, D), persistent=False)
        self.top_shapes = [(T, N, D)] + [(1, N, D)] * exposed

    def check_shapes(self, shapes, exposed, tops):
        x, cont, *rest = map(tuple, shapes)
        if len(x) < 3 or cont != x[:2]:
            raise ValueError(f"needs bottoms x [T, N, ...] and cont [T, N], got {list(x)} and {list(cont)}")
        if len(rest) not in (exposed, exposed + 1):
            what = f"{2 + exposed} or, with x_static, {3 + exposed} bottoms"
            raise ValueError(f"takes {what}, got {len(shapes)}")
        if tops != 1 + exposed:
            raise ValueError(f"takes {1 + exposed} top{'s' * bool(exposed)}, got {tops}")
        self.static = len(rest) > exposed
        if self.static and (len(rest[0]) < 2 or rest[0][0] != x[1]):
            raise ValueError(f"needs x_static [{x[1]}, ...] with one row a sequence, got {list(rest[0])}")
        for state in rest[self.static :]:
            if state != (1, x[1], self.p.num_output):
                raise ValueError(f"needs exposed states {[1, x[1], self.p.num_output]}, got {list(state)}")
        return x[:2]

    def run(self, x, cont, rest):
        """All states [S, T, N, D]."""
        w_x, b, *w_static, w_h = self.weights()
        z = F.linear(x.flatten(2), w_x, b)  # [T, N, G*D]
        if self.static:
            z = z + F.linear(rest[0].flatten(1), w_static[0])
        T, N = z.shape[:2]
        initial = torch.stack([s[0] for s in rest[self.static :]]) if self.p.expose_hidden else self.left(N)
        states = scan_states(
            z.unsqueeze(2),
            w_h[None],
            plan(("right",), 1, T, "carry"),
            self.cell,
            initial=initial.detach().to(z.dtype).unsqueeze(2),
            cont=cont.detach().to(z.dtype),
        ).squeeze(3)
        if not self.p.expose_hidden:
            self.carried = states[:, -1].detach().clone()  # a view would keep all T steps
        return states

    def left(self, N):
        """What the batch before left behind, for N sequences: those that are new begin with zeros."""
        return F.pad(self.carried[:, :N], (0, 0, 0, max(0, N - self.carried.shape[1])))

    def weights(self):
        return list(self.blobs)

    def tops_of(self, output, states):
        """The output, and the last states with `expose_hidden`."""
        return (output, *(states[:, -1:].detach() if self.p.expose_hidden else ()))


@register("LSTM")
class LSTM(Recurrent):
    """Gates i, f, o, g; c_t = f cont_t c_{t-1} + i g; h_t = o tanh(c_t).

    bottoms: x [T, N, ...]; cont [T, N], 0 where a sequence begins; x_static [N, ...] (optional); h_0 and c_0
             [1, N, D] with `expose_hidden`.
    tops:    h [T, N, D]; h_T and c_T [1, N, D] with `expose_hidden`.
    blobs:   W_xc [4D, ...], b_c [4D], W_xc_static [4D, ...] if there is x_static, W_hc [4D, D].
    """

    cell = "lstm"

    def forward(self, x, cont, *rest):
        states = self.run(x, cont, rest)
        return self.tops_of(states[0], states)


@register("RNN")
class RNN(Recurrent):
    """h_t = tanh(W_xh x_t + b_h + W_hh cont_t h_{t-1}); o_t = tanh(W_ho h_t + b_o).

    bottoms: x [T, N, ...]; cont [T, N], 0 where a sequence begins; x_static [N, ...] (optional);
             h_0 [1, N, D] with `expose_hidden`.
    tops:    o [T, N, D]; h_T [1, N, D] with `expose_hidden`.
    blobs:   W_xh [D, ...], b_h [D], W_xh_static [D, ...] if there is x_static, W_hh [D, D], W_ho [D, D],
             b_o [D].
    """

    cell = "tanh"

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        D = self.p.num_output
        self.add_blob((D, D), self.p.weight_filler)
        self.add_blob((D,), self.p.bias_filler)

    def weights(self):
        return list(self.blobs)[:-2]

    def forward(self, x, cont, *rest):
        states = self.run(x, cont, rest)
        *_, w_ho, b_o = self.blobs
        return self.tops_of(torch.tanh(F.linear(states[0], w_ho, b_o)), states)


@register("LSTMUnit")
class LSTMUnit(Layer):
    """One step of an LSTM whose products are done: c = f cont c_before + i g; h = o tanh(c).

    bottoms: c_before [1, N, D]; gates i, f, o, g [1, N, 4D]; cont [1, N].    tops: c, h [1, N, D].
    """

    bottoms = (3, 3)
    tops = (2, 2)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        c, gates, cont = map(tuple, bottom_shapes)
        N, D = (c[1], c[2]) if len(c) == 3 else (0, 0)
        if (c, gates, cont) != ((1, N, D), (1, N, 4 * D), (1, N)):
            raise ValueError(
                f"needs c [1, N, D], gates [1, N, 4D], cont [1, N]; got {[list(c), list(gates), list(cont)]}"
            )
        self.top_shapes = [c, c]

    def forward(self, c, gates, cont):
        i, f, o, g = gates.chunk(4, 2)
        c = torch.sigmoid(f) * cont.detach().unsqueeze(2) * c + torch.sigmoid(i) * torch.tanh(g)
        return c, torch.sigmoid(o) * torch.tanh(c)
