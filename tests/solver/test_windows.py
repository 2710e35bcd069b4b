"""window_update, future_state and legacy_shared_decay: C-RNN's readings beside a plain transcription.

The transcription keeps one state a region in a dictionary and does what Zuo 2015, section 3.2.3 says, window
by window; autograd differentiates the window that learns.
"""

import pytest
import torch

from crnn.ops import plan, windows
from crnn.proto import pb
from crnn.proto.upgrade import read_net
from crnn.solver.solver import Solver
from crnn.testing import assert_near

N, H, C, CLASSES = 3, 3, 4, 5
DIRECTIONS = ("right", "left", "down", "up")
RATE, MOMENTUM, DECAY = 0.125, 0.875, 0.0625  # exact in the solver text's float32
BLOBS = ("w_ih", "b", "w_hh")

NET = """
layer { name: "in" type: "Input" top: "x" top: "label"
  input_param { shape { dim: 3 dim: 4 dim: %(H)d dim: %(W)d } shape { dim: 3 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {
  num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "rnn" type: "SpatialRNN" bottom: "conv" top: "rnn"
  param { } param { lr_mult: 2 decay_mult: 0 } param { decay_mult: 0.5 }
  spatial_rnn_param { num_output: 4 line_break: "%(line_break)s" future_state: "%(future)s" %(extra)s
    weight_filler { type: "xavier" } recurrent_filler { type: "gaussian" std: 0.3 }
    bias_filler { type: "uniform" max: 0.2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "rnn" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def solver(window_update, future="cached", W=H, line_break="carry_value", extra="", **fields):
    text = NET % {"H": H, "W": W, "line_break": line_break, "future": future, "extra": extra}
    plain = {"base_lr": RATE, "momentum": MOMENTUM, "weight_decay": DECAY, "lr_policy": "fixed"}
    param = pb.SolverParameter(**{**plain, **fields}, window_update=window_update, random_seed=3)
    param.net_param.CopyFrom(read_net(text).message)
    made = Solver(param)
    made.net.double()
    for record in made.params:
        record.history = [h.double() for h in record.history]
    return made


def regions(direction):
    """The windows of a direction, each its regions (i, j) in the order of the visit."""
    rows = [[(i, j) for j in range(H)] for i in range(H)]
    columns = [[(i, j) for i in range(H)] for j in range(H)]
    windows = rows if direction in ("right", "left") else columns
    return windows if direction in ("right", "down") else [w[::-1] for w in windows[::-1]]


class Transcription:
    """The net of NET with its SGD, region by region."""

    def __init__(self, net):
        names = ("conv_w", "conv_b", *BLOBS, "fc_w", "fc_b")
        records = [p.parameter for p in net.params]
        self.p = {k: v.detach().clone().requires_grad_() for k, v in zip(names, records, strict=True)}
        self.v = {k: torch.zeros_like(v) for k, v in self.p.items()}
        self.lr = {"b": 2.0}
        self.decay = {"b": 0.0, "w_hh": 0.5}

    def conv(self, x):
        return (
            torch.einsum("nchw,dc->ndhw", x, self.p["conv_w"][:, :, 0, 0]) + self.p["conv_b"][:, None, None]
        )

    def window(self, x, k, w, h):
        """The states of window w of direction k from h, the last state before it."""
        states = {}
        for i, j in regions(DIRECTIONS[k])[w]:
            z = x[:, :, i, j] @ self.p["w_ih"][k].T + self.p["b"][k]
            h = torch.relu(z + h @ self.p["w_hh"][k].T)
            states[k, i, j] = h
        return states

    def last(self, states, k, w):
        i, j = regions(DIRECTIONS[k])[w][-1]
        return states[k, i, j]

    def scan(self, x):
        """Every window from the last state of the one before, as constants."""
        states = {}
        with torch.no_grad():
            for k in range(4):
                h = torch.zeros(N, C, dtype=x.dtype)
                for w in range(H):
                    states |= self.window(x, k, w, h)
                    h = self.last(states, k, w)
        return states

    def future(self, states, x, w, kind):
        for k in range(4):
            for window in regions(DIRECTIONS[k])[w + 1 :]:
                for i, j in window:
                    if kind != "cached":
                        states[k, i, j] = (
                            x[:, :, i, j].detach() if kind == "input" else torch.zeros(N, C).double()
                        )

    def learn(self, x, label, states, w):
        """The loss whose gradient goes through window w only; `states` get its new values."""
        new = {}
        for k in range(4):
            h = self.last(states, k, w - 1) if w else torch.zeros(N, C, dtype=x.dtype)
            new |= self.window(x, k, w, h)
        states |= new
        total = [sum(states[k, i, j] for k in range(4)) for i in range(H) for j in range(H)]
        features = torch.stack(total, 2).flatten(1)  # C, H, W order
        logits = features @ self.p["fc_w"].T + self.p["fc_b"]
        loss = torch.nn.functional.cross_entropy(logits, label)
        states |= {key: value.detach() for key, value in new.items()}
        return loss

    def update(self, loss, names):
        gradients = torch.autograd.grad(loss, [self.p[n] for n in names], retain_graph=True)
        with torch.no_grad():
            for name, g in zip(names, gradients, strict=True):
                g = g + DECAY * self.decay.get(name, 1.0) * self.p[name]
                self.v[name] = MOMENTUM * self.v[name] + RATE * self.lr.get(name, 1.0) * g
        for name in names:  # new leaves: the graph of this batch keeps the old ones
            self.p[name] = (self.p[name].detach() - self.v[name]).requires_grad_()

    def sequential(self, x, label, kind):
        features = self.conv(x)
        states = self.scan(features)
        self.future(states, features, 0, kind)
        for w in range(H):
            loss = self.learn(features, label, states, w)
            self.update(loss, BLOBS if w < H - 1 else tuple(self.p))
        return loss

    def cycle(self, x, label, kind, iteration):
        features, w = self.conv(x), iteration % H
        states = self.scan(features)
        self.future(states, features, w, kind)
        loss = self.learn(features, label, states, w)
        self.update(loss, tuple(self.p))
        return loss


@pytest.mark.parametrize("future", ["cached", "input", "zero"])
@pytest.mark.parametrize("kind", ["sequential", "cycle"])
def test_four_batches_equal_the_transcription(kind, future):
    ours = solver(kind, future)
    theirs = Transcription(ours.net)
    draw = torch.Generator().manual_seed(0)
    for iteration in range(4):
        x = torch.randn(N, C, H, H, generator=draw, dtype=torch.float64)
        label = torch.randint(CLASSES, (N,), generator=draw)
        ours.step(1, {"x": x, "label": label.float()})
        extra = (iteration,) if kind == "cycle" else ()
        loss = getattr(theirs, kind)(x, label, future, *extra)
        assert ours.losses[-1] == pytest.approx(loss.item(), rel=1e-12)
        for record, (name, want) in zip(ours.params, theirs.p.items(), strict=True):
            assert_near(record.blob, want, 1e-12, f"{name} after iteration {iteration}")
            assert_near(record.history[0], theirs.v[name], 1e-12, name)


def one_batch(kind, **options):
    made = solver(kind, **options)
    before = [p.blob.detach().clone() for p in made.params]
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(N, C, H, H, generator=draw, dtype=torch.float64)
    made.step(1, {"x": x, "label": torch.tensor([0.0, 1.0, 2.0])})
    return made, before


def test_cached_windows_move_as_one_accumulated_update_for_a_small_rate():
    """Sequential updates with cached states are the accumulated one up to O(rate)."""

    def moved(kind, rate):
        made, before = one_batch(kind, momentum=0, weight_decay=0, base_lr=rate)
        index = [p.name for p in made.params].index("rnn[2]")
        return (made.params[index].blob.detach() - before[index]) / rate

    errors = []
    for rate in (1e-2, 1e-3, 1e-4):
        a, b = moved("sequential", rate), moved("accumulate", rate)
        errors.append(((a - b).norm() / b.norm()).item())
    assert errors[1] < errors[0] / 5 and errors[2] < errors[1] / 5 and errors[2] < 1e-3


def test_the_layer_scans_as_ever_when_it_is_not_learning():
    """Tests between and after the iterations see the plain layer."""
    made, _ = one_batch("sequential")
    assert made.net.layer("rnn").window is None
    x = torch.randn(N, C, H, H, dtype=torch.float64)
    plain = solver("accumulate")
    plain.net.share_weights(made.net)
    label = torch.zeros(N)
    assert torch.equal(made.net(x=x, label=label)["loss"], plain.net(x=x, label=label)["loss"])


@pytest.mark.parametrize("kind", ["sequential", "cycle"])
def test_nets_that_have_no_windows_are_refused(kind):
    with pytest.raises(
        ValueError, match=r'one SpatialRNN layer, of line_break "carry_value"; it has \'rnn\' \(ca'
    ):
        solver(kind, line_break="carry")
    with pytest.raises(ValueError, match="equal lines \\(a square map\\), these have 3 of 4, 3 of 4, 4 of 3"):
        solver(kind, W=4)


def test_input_as_future_state_needs_as_many_channels_as_states():
    w_hh, z, x = torch.zeros(1, 4, 4), torch.zeros(9, 1, 1, 4), torch.zeros(1, 3, 3, 3)
    order = plan(("right",), 3, 3, "carry_value")
    with pytest.raises(ValueError, match="needs as many channels as num_output, 4, got 3"):
        windows.start(z, w_hh, order, "relu", None, 0, "input", x)


def test_unknown_future_state():
    with pytest.raises(ValueError, match="unknown future_state 'past'; known: cached, input, zero"):
        solver("accumulate", future="past")


def test_legacy_shared_decay_decays_once_for_each_unrolled_step():
    made = solver("accumulate", legacy_shared_decay=True)
    mults = {p.name: p.decay_mult for p in made.params}
    P = H * H
    assert mults == {
        "conv[0]": 1, "conv[1]": 1, "rnn[0]": P, "rnn[1]": 0, "rnn[2]": P * 0.5, "fc[0]": 1, "fc[1]": 1,
    }  # fmt: skip


def test_legacy_shared_decay_of_blobs_shared_by_name():
    shared = """
    layer { name: "in" type: "Input" top: "x" top: "y" input_param { shape { dim: 2 dim: 3 } } }
    layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } inner_product_param {
      num_output: 3 bias_term: false weight_filler { type: "xavier" } } }
    layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } inner_product_param {
      num_output: 3 bias_term: false } }
    layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "y" top: "loss" }
    """
    param = pb.SolverParameter(base_lr=0.5, weight_decay=0.1, lr_policy="fixed", legacy_shared_decay=True)
    param.net_param.CopyFrom(read_net(shared).message)
    made = Solver(param)
    w = made.params[0].blob.detach().clone()
    made.step(1, {"x": torch.zeros(2, 3), "y": torch.zeros(2, 3)})  # no gradient: decay alone
    assert_near(made.params[0].blob, w * (1 - 0.5 * 0.1 * 2), 1e-6)
