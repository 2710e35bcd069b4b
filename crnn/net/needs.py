"""Which layers run backward, and into which of their bottoms (Caffe: Net::Init in src/caffe/net.cpp)."""

from dataclasses import dataclass


@dataclass
class Need:
    layer: bool  # whether backward runs at all
    bottoms: list[bool]


def backward_needs(nodes, force_backward: bool) -> list[Need]:
    """One Need a node.

    A layer runs backward if something that learns lies below or in it and a loss above it; `force_backward`
    takes every layer. Class numbers and other indices never get a gradient.
    """
    needs, learning = [], set()
    for node in nodes:
        bottoms = [name in learning for name in node.bottoms]
        layer = any(bottoms) or any(blob.requires_grad for blob in node.layer.parameters())
        passes = zip(bottoms, node.passes_gradient, strict=True)
        needs.append(Need(layer, [wants and passed for wants, passed in passes]))
        if layer:
            learning.update(node.tops)
    if force_backward:
        return [
            Need(
                not node.layer.source or any(True for _ in node.layer.parameters()),
                [j not in node.layer.indices for j in range(len(node.bottoms))],
            )
            for node in nodes
        ]
    stop_above_losses(nodes, needs)
    return needs


def stop_above_losses(nodes, needs: list[Need]) -> None:
    """Goes down from the outputs and takes back what no loss asks for."""
    under_loss, cut = set(), set()
    for node, need in zip(reversed(nodes), reversed(needs), strict=True):
        weighs = any(node.param.loss_weight)
        contributes = weighs or any(name in under_loss for name in node.tops)
        reached = weighs or any(name in under_loss and name not in cut for name in node.tops)
        if not (contributes and reached and need.layer):
            need.layer, need.bottoms = False, [False] * len(need.bottoms)
        for name, wants in zip(node.bottoms, need.bottoms, strict=True):
            if contributes:
                under_loss.add(name)
            if not wants:
                cut.add(name)
