"""Label paths of a CNN-RNN net, step by step: greedy or with a beam (Guo 2018, section 3.2).

The net is any prototxt with an LSTM that takes the image feature as its static input and label sequences
[N, T, 1, 1] from a layer of its own; it scores each step's label, [T, N, V], having seen those before it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crnn.net.graph import Node
from crnn.net.net import Net, run

PADDING = -1


@dataclass(frozen=True)
class Generator:
    """The blobs by which labels enter and leave a net, and the layers that are run again for each step.

    path: [N, T, 1, 1].    feature: [N, ...], seen at every step.    scores: [T, N, V].    states: [T, N, D].
    """

    path: str
    feature: str
    scores: str
    states: str
    normalised: bool  # the scores are probabilities
    steps: int
    nodes: list[Node]


def generator(net: Net) -> Generator | None:
    """What makes label paths in a net, None where nothing does.

    Raises ValueError for an LSTM with a static input whose net is not of the form above.
    """
    lstms = [node for node in net.nodes if node.param.type == "LSTM" and len(node.bottoms) == 3]
    if not lstms:
        return None
    states = lstms[-1].tops[0]
    steps = net.shapes[states][0]
    paths = [
        top for n in net.nodes if n.layer.source for top in n.tops if net.shapes[top][1:] == (steps, 1, 1)
    ]
    if len(paths) != 1:
        raise ValueError(
            f"net {net.name!r} must have one layer whose top is label paths [N, {steps}, 1, 1], it has "
            f"{len(paths)}"
        )
    readers = {n.param.type: n for n in net.nodes if n.param.type in ("Softmax", "SoftmaxWithLoss")}
    last = readers.get("Softmax") or readers.get("SoftmaxWithLoss")
    if last is None:
        raise ValueError(f"net {net.name!r} has no Softmax or SoftmaxWithLoss: nothing to say labels by")
    scores = last.tops[0] if last.param.type == "Softmax" else last.bottoms[0]
    if len(net.shapes[scores]) != 3 or net.shapes[scores][0] != steps:
        shape = list(net.shapes[scores])
        raise ValueError(f"blob {scores!r} of net {net.name!r} is {shape}, wanted scores [{steps}, N, V]")
    return Generator(
        *(paths[0], lstms[-1].bottoms[2], scores, states),
        last.param.type == "Softmax",
        steps,
        _between(net, paths[0], scores),
    )


def _between(net: Net, first: str, last: str) -> list[Node]:
    """The layers that `last` needs and that depend on `first`, in order."""
    changed, nodes = {first}, []
    for node in net.nodes:
        if changed.intersection(node.bottoms):
            changed.update(node.tops)
            nodes.append(node)
            if last in node.tops:
                break
    return nodes


@torch.no_grad()
def decode(
    net: Net,
    made: Generator,
    known: np.ndarray | None = None,
    follows: np.ndarray | None = None,
    end: int | None = None,
    beam: int = 1,
) -> np.ndarray:
    """int64 [N, T], the most probable paths that a beam finds, after a forward of the net on N images.

    known: int64 [N, k], the first labels, given.    follows: bool [V + 1, V], which label may come after each
    (the last row: at the start); without it any may.    end: the label after which there is PADDING.
    beam: how many paths are kept at each step; 1 is greedy. Equal ones: the lower label first.

    Raises ValueError for a beam below 1, and where more labels are given than the net has steps.
    """
    given = 0 if known is None else known.shape[1]
    if beam < 1 or given > made.steps:
        raise ValueError(
            f"wanted a beam of 1 or more and at most {made.steps} labels, got {beam} and {given}"
        )
    feature = net.blobs[made.feature]
    N, device = len(feature), feature.device
    if follows is None:
        V = net.shapes[made.scores][2]
        follows = np.ones((V + 1, V), bool)
    allowed = torch.from_numpy(follows).to(device)
    paths = torch.zeros(N, 1, made.steps, dtype=torch.long, device=device)  # [N, B, T]
    totals = torch.zeros(N, 1, dtype=torch.float64, device=device)
    for t in range(made.steps):
        if t < given:
            paths[:, :, t] = torch.from_numpy(known[:, t]).to(device)[:, None]
            continue
        before = paths[:, :, t - 1] if t else torch.full_like(paths[:, :, 0], len(allowed) - 1)
        logs = _step(net, made, feature, paths, t).masked_fill(~allowed[before], -torch.inf)
        if end is not None:  # a path that has ended goes on with ends, for nothing
            over = (before == end) & (t > 0)
            logs[over] = -torch.inf
            logs[..., end][over] = 0
        totals, paths = _best(totals, paths, logs, t, beam)
    net.blobs[made.feature] = feature
    best = paths[:, 0]
    if end is not None:
        best[((best == end).cumsum(1) > 1)] = PADDING
    return best.cpu().numpy()


def _step(net: Net, made: Generator, feature: Tensor, paths: Tensor, t: int) -> Tensor:
    """float64 [N, B, V], the logarithms of step t's probabilities after each of B paths."""
    N, B, T = paths.shape
    net.blobs[made.feature] = feature.repeat_interleave(B, 0)
    net.blobs[made.path] = paths.reshape(N * B, T, 1, 1).to(feature.dtype)
    for node in made.nodes:
        tops = run(node, [net.blobs[name] for name in node.bottoms])
        net.blobs.update(zip(node.tops, tops, strict=True))
    scores = net.blobs[made.scores][t].double().reshape(N, B, -1)
    return scores.log() if made.normalised else scores.log_softmax(2)


def _best(totals: Tensor, paths: Tensor, logs: Tensor, t: int, beam: int) -> tuple[Tensor, Tensor]:
    """The `beam` best of all paths one label longer: their log-probabilities [N, B] and themselves."""
    N, B, V = logs.shape
    every = (totals[..., None] + logs).reshape(N, B * V)
    order = every.argsort(dim=1, descending=True, stable=True)[:, : min(beam, B * V)]
    paths = paths.gather(1, (order // V)[..., None].expand(-1, -1, paths.shape[2])).clone()
    paths[:, :, t] = order % V
    return every.gather(1, order), paths
