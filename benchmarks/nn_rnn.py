"""torch.nn.RNN and nn.LSTM (cuDNN on a GPU) as the spatial layer, where they can compute it."""

import torch
from torch import Tensor, nn

from crnn.ops import LineBreak
from crnn.testing import ScanCase

from .gate import Contestant

MODULES = {"relu": (nn.RNN, {"nonlinearity": "relu"}), "tanh": (nn.RNN, {}), "lstm": (nn.LSTM, {})}
OTHER_FUNCTION = {
    "gru": "nn.GRU resets after the product, the paper's gru before it: another function",
    "gru_tanh": "nn.GRU resets after the product, the paper's gru before it: another function",
    "ln_relu": "torch and cuDNN have no cell with layer normalisation",
    "half_gru": "torch and cuDNN have no such cell",
}
PAIRS = {("right", "left"): False, ("down", "up"): True}  # -> whether they go by columns


def differs(case: ScanCase) -> str:
    """Why nn.RNN does not compute the case; "" if it does."""
    if case.cell in OTHER_FUNCTION:
        return OTHER_FUNCTION[case.cell]
    if any(d not in ("right", "left", "down", "up") for d in case.directions):
        return "mirrored directions: written for right, left, down and up"
    return ""


def algorithm(
    case: ScanCase, dtype: str, forward: bool, multiprocessors: int, capability: tuple[int, int]
) -> str:
    """The algorithm that torch asks of cuDNN (get_algo in aten/src/ATen/native/cudnn/RNN.cpp).

    Padded input, one layer, input_size = hidden size = D; the batch is that of one call.
    """
    D, vanilla = case.D, case.cell != "lstm"
    small = (384 if forward else 256) if vanilla else (192 if forward else 128)
    if capability[0] >= 6 and small >= D:
        return "PERSIST_STATIC_SMALL_H"
    batch = case.N * (case.H if case.line_break == "reset" else 1)
    one_way = not paired(case)
    fits = one_way and D <= 1024 and D % 128 == 0
    major, minor = capability
    large_chip = major >= 8 and minor != 6 and multiprocessors >= 98
    quick = batch % 8 == 0 and batch <= 128 and (not vanilla or batch < 96 or D < 896)
    return "PERSIST_STATIC" if dtype == "fp16" and fits and large_chip and quick else "STANDARD"


def paired(case: ScanCase) -> bool:
    """Whether opposite directions go as one bidirectional call.

    Not with windows: the two directions reach a window at different times.
    """
    named = tuple(case.directions)
    pairs = [named[i : i + 2] for i in range(0, len(named), 2)]
    return case.line_break != "carry_value" and all(p in PAIRS for p in pairs)


def calls(case: ScanCase) -> int:
    """Calls of nn.RNN in one forward."""
    if paired(case):
        return len(case.directions) // 2
    return sum(d.lines if d.line_break == LineBreak.CARRY_VALUE else 1 for d in case.plan)


def build(case: ScanCase, inputs: dict[str, Tensor]) -> Contestant:
    """The summed map [N, D, H, W] of x. The weights are the modules' own, as cuDNN wants them: in one piece.

    x is channels_last, so that rows enter as a view; columns and reversals are copied, as they must be.
    """
    K = len(case.directions)
    groups = [(k, k + 1) for k in range(0, K, 2)] if paired(case) else [(k,) for k in range(K)]
    modules = [module(case, inputs, group) for group in groups]

    def rnn(x, *_):
        total = None
        for group, net in zip(groups, modules, strict=True):
            name = case.directions[group[0]]
            by_columns, backwards = name in ("down", "up"), len(group) == 1 and name in ("left", "up")
            map_ = x.permute(0, 3, 2, 1) if by_columns else x.permute(0, 2, 3, 1)  # [N, lines, steps, C]
            h = visit(net, map_, case.line_break, backwards)
            h = h.transpose(1, 2) if by_columns else h
            total = h if total is None else total + h
        return total.permute(0, 3, 1, 2)

    def gradients(grads):
        found, rest = {"x": grads[0]}, iter(grads[1:])
        for name in ("w_ih", "bias", "w_hh"):
            found[name] = torch.stack([reorder(case.cell, next(rest)) for _ in range(K)])
        return found

    names = ("weight_ih", "bias_ih", "weight_hh")
    leaves = [getattr(net, name + end) for name in names for net in modules for end in ends(net)]
    return Contestant(rnn, [inputs["x"], *leaves], gradients)


def ends(net: nn.Module) -> list[str]:
    return ["_l0", "_l0_reverse"] if net.bidirectional else ["_l0"]


def reorder(cell: str, rows: Tensor) -> Tensor:
    """Caffe's gates of an LSTM are i, f, o, g, torch's i, f, g, o: either from the other."""
    return torch.cat([rows.chunk(4)[g] for g in (0, 1, 3, 2)]) if cell == "lstm" else rows


def module(case: ScanCase, inputs: dict[str, Tensor], group: tuple[int, ...]) -> nn.Module:
    """nn.RNN or nn.LSTM of one direction or two opposite ones, with our weights."""
    kind, options = MODULES[case.cell]
    w = inputs["w_hh"]
    net = kind(case.D, case.D, batch_first=True, bidirectional=len(group) == 2, **options).to(
        w.device, w.dtype
    )
    with torch.no_grad():
        for k, end in zip(group, ends(net), strict=True):
            for name, source in (("weight_ih", "w_ih"), ("bias_ih", "bias"), ("weight_hh", "w_hh")):
                getattr(net, name + end).copy_(reorder(case.cell, inputs[source][k]))
            getattr(net, f"bias_hh{end}").zero_()
    return net


def visit(net: nn.Module, map_: Tensor, line_break: str, backwards: bool) -> Tensor:
    """One direction, or two opposite ones summed, over [N, lines, steps, C]."""
    N, lines, steps, _ = map_.shape
    rows = map_.reshape(N * lines, steps, -1) if line_break == "reset" else map_.reshape(N, lines * steps, -1)
    rows = rows.flip(1) if backwards else rows
    if line_break == "carry_value":  # window by window, to cut the gradient in between
        state, windows = None, []
        for window in rows.split(steps, 1):
            out, state = net(window, state)
            state = tuple(s.detach() for s in state) if isinstance(state, tuple) else state.detach()
            windows.append(out)
        h = torch.cat(windows, 1)
    else:
        h = net(rows)[0]
    h = sum(h.chunk(2, -1)) if net.bidirectional else h
    h = h.flip(1) if backwards else h
    return h.reshape(N, lines, steps, -1)
