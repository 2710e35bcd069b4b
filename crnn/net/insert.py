"""Insertion of L-RNNs into a trained net's prototxt and weights (Xie 2016, section 4).

A convolution and its ReLU become that convolution and a SpatialRNN that reads its output as W_ih x + b. With
V = 0 the net gives the same bits as before; two directions are averaged, since each gives the ReLU.
"""

from collections.abc import Mapping

import numpy as np

from crnn.ops.plan import CASCADES
from crnn.proto import pb
from crnn.proto.blobs import from_array
from crnn.proto.text import Document, PrototxtError

_KINDS = ("Convolution", "Deconvolution")


def insert(document: Document, layers: Mapping[str, str]) -> tuple[pb.NetParameter, dict[str, list[str]]]:
    """The net with RNNs in the place of the ReLUs of `layers`, and the new layers of each by name.

    Args:
        document: of a NetParameter (`read_net`).
        layers: name of a convolution -> "horizontal", "vertical" or "both" (one after the other).

    Raises:
        PrototxtError: all that cannot be done, with lines: no such layer, no convolution, or one whose output
            something other than a ReLU reads.
    """
    net, problems, edits = document.message, [], []
    for name, where in layers.items():
        found = [i for i, layer in enumerate(net.layer) if layer.name == name]
        if where not in CASCADES:
            problems.append(f"{name}: unknown {where!r}; known: {', '.join(CASCADES)}")
        if not found:
            problems.append(f"{document.name}: there is no layer {name!r}")
        for i in found:
            relu, problem = find_relu(net, i)
            if problem:
                problems.append(
                    f"{document.where('layer', i)}: layer {name!r} ({net.layer[i].type}) {problem}"
                )
            edits.append((i, relu, where))
    if problems:
        raise PrototxtError(problems, document)
    changed, added = pb.NetParameter(), {}
    changed.CopyFrom(net)
    for i, relu, where in sorted(edits, key=lambda edit: -edit[1]):  # from the end: places stay right
        added[net.layer[i].name] = [layer.name for layer in replace(changed, i, relu, where)]
    return changed, added


def find_relu(net, i: int) -> tuple[int, str]:
    """The index of the ReLU that alone reads layer i's top, or what is in the way."""
    layer = net.layer[i]
    if layer.type not in _KINDS:
        return -1, f"is no {' or '.join(_KINDS)}: an L-RNN goes after one"
    top = layer.top[0]
    readers = [j for j in range(i + 1, len(net.layer)) if top in net.layer[j].bottom]
    relu = net.layer[readers[0]] if readers else None
    if relu is None or relu.type != "ReLU" or relu.relu_param.negative_slope:
        return (
            -1,
            f"has no plain ReLU after it: the first to read {top!r} is {relu.name if relu else 'none'!r}",
        )
    if relu.top[0] != top and len(readers) > 1:
        names = ", ".join(repr(net.layer[j].name) for j in readers)
        return -1, f"gives {top!r}, which {names} read: the ReLU must be alone"
    return readers[0], ""


def replace(net, i: int, relu: int, where: str) -> list:
    """Puts RNNs in the place of the ReLU; returns their definitions."""
    layer, old, rnns = net.layer[i], net.layer[relu], []
    bottom, top = old.bottom[0], old.top[0]
    if bottom == top:  # in place: the convolution's own output gets a name
        bottom = layer.top[0] = f"{top}_z"
    cascade = CASCADES[where]
    for n, pair in enumerate(cascade):
        suffix = "" if len(cascade) == 1 else ("_horizontal", "_vertical")[n]
        end = top if n == len(cascade) - 1 else f"{top}_horizontal"
        rnn = pb.LayerParameter(
            name=f"{layer.name}_rnn{suffix}", type="SpatialRNN", bottom=[bottom], top=[end]
        )
        rnn.include.MergeFrom(old.include)
        rnn.exclude.MergeFrom(old.exclude)
        rnn.spatial_rnn_param.num_output = layer.convolution_param.num_output
        rnn.spatial_rnn_param.direction.extend(pair)
        rnn.spatial_rnn_param.line_break, rnn.spatial_rnn_param.cell = "reset", "relu"
        rnn.spatial_rnn_param.combine, rnn.spatial_rnn_param.project_input = "mean", False
        rnns.append(rnn)
        bottom = end
    layers = [*net.layer[:relu], *rnns, *net.layer[relu + 1 :]]
    copies = [pb.LayerParameter.FromString(one.SerializeToString()) for one in layers]
    net.ClearField("layer")
    net.layer.extend(copies)
    return rnns


def insert_weights(weights: pb.NetParameter, net: pb.NetParameter, added: Mapping[str, list[str]]) -> None:
    """Gives the new layers of `net` V = 0 in `weights`, behind the convolution they follow.

    Raises ValueError if `weights` has no such convolution.
    """
    definitions = {layer.name: layer for layer in net.layer}
    missing = [name for name in added if name not in {layer.name for layer in weights.layer}]
    if missing:
        raise ValueError(f"the weights have no layer {missing[0]!r}: they are of another net")
    kept = []
    for layer in weights.layer:
        kept.append(pb.LayerParameter.FromString(layer.SerializeToString()))
        for name in added.get(layer.name, ()):
            rnn = pb.LayerParameter.FromString(definitions[name].SerializeToString())
            K, D = len(rnn.spatial_rnn_param.direction), rnn.spatial_rnn_param.num_output
            rnn.blobs.append(from_array(np.zeros((K, D, D), np.float32)))
            kept.append(rnn)
    weights.ClearField("layer")
    weights.layer.extend(kept)
