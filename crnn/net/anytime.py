"""The answers that a net can give before it has run whole (Zhang 2018: "stop at any scale").

An answer is a blob of class scores. It needs the layers that make it and no others; of a ScaleRNN whose tops
are the states after each scale it needs the scales up to that of its state.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from .graph import Node
from .multiply_adds import multiply_adds
from .net import Net

SCORED = ("SoftmaxWithLoss", "Accuracy")


@dataclass(frozen=True)
class Answer:
    """blob: of scores [N, n].    multiply_adds: of one image, up to this answer.

    layers: the number of each node that makes it -> the last scale of a ScaleRNN that counts.
    """

    blob: str
    layers: dict[int, int]
    multiply_adds: int


def answers_of(net: Net) -> list[Answer]:
    """What the net's losses and Accuracy layers read, else what its Softmax layers leave; the cheapest first.

    Raises ValueError for a net without scores, or with a layer whose multiply-adds are not known.
    """
    read = [node.bottoms[0] for node in net.nodes if node.param.type in SCORED]
    made = [node.tops[0] for node in net.nodes if node.param.type == "Softmax"]
    names = dict.fromkeys(read or [name for name in made if name in net.outputs])
    if not names:
        raise ValueError(f"net {net.name!r} has no Softmax, SoftmaxWithLoss or Accuracy: it gives no answer")
    found = []
    for name in names:
        layers = _needed(net, name)
        cost = sum(multiply_adds(net.nodes[i], net.shapes, last + 1) for i, last in layers.items())
        found.append(Answer(name, layers, cost))
    return sorted(found, key=lambda answer: answer.multiply_adds)


def answers(net: Net, **blobs) -> Iterator[tuple[str, Tensor]]:
    """(blob, scores) of each answer, the cheapest first; a layer runs when the first answer needs it.

    blobs: as a Net is called with them. Whoever has seen enough stops asking.
    """
    given, done = net.given((), blobs), set()
    net.blobs = {}
    for answer in answers_of(net):
        for i, last in sorted(answer.layers.items()):
            node = net.nodes[i]
            if (i, last) in done:
                continue
            done.add((i, last))
            if node.layer.source:
                net.blobs.update(net.source(node, given))
            elif _has_states(node):
                bottoms = [net.blobs[name] for name in _read(node, last)]
                net.blobs[node.tops[last]] = node.layer.state(bottoms[: last + 1], *bottoms[last + 1 :])
            else:
                net.run(node)
        yield answer.blob, net.blobs[answer.blob]


def _needed(net: Net, blob: str) -> dict[int, int]:
    """The numbers of the nodes that make a blob, each with the last of its tops that is asked for."""
    wanted, found = {blob}, {}
    for i, node in reversed(list(enumerate(net.nodes))):
        asked = [t for t, name in enumerate(node.tops) if name in wanted]
        if asked:
            found[i] = asked[-1] if _has_states(node) else len(node.bottoms) - 1
            wanted.update(_read(node, found[i]))
    return found


def _read(node: Node, last: int) -> list[str]:
    """The bottoms that the top of number `last` depends on."""
    if not _has_states(node):
        return node.bottoms
    return node.bottoms[: last + 1] + node.bottoms[len(node.tops) :]  # and the counts


def _has_states(node: Node) -> bool:
    """Whether a node is a ScaleRNN with a top a scale."""
    return node.param.type == "ScaleRNN" and len(node.tops) > 1
