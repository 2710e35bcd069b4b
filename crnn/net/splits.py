"""The Split layers that Caffe puts where a blob is read more than once (src/caffe/util/insert_splits.cpp).

crnn.Net needs none, for autograd adds the gradients. A net whose every blob has a diff of its own does: each
reader writes its own, and the Split layer adds them.
"""

import copy
from collections import Counter

from crnn.net.graph import is_included
from crnn.proto import pb
from crnn.proto.text import Document

Top = tuple[int, int]  # layer, index of its top


def with_splits(document: Document, state) -> Document:
    """The document with Split layers, named as Caffe's, for the net that it has in this NetState."""
    original = document.message
    makers, readers = wiring(original, state)
    result, taken, moved = copy.copy(document), Counter(), {}
    result.message = pb.NetParameter()
    result.message.CopyFrom(original)
    del result.message.layer[:]
    for i, before in enumerate(original.layer):
        moved[i] = len(result.message.layer)
        layer = result.message.layer.add()
        layer.CopyFrom(before)
        for j, name in enumerate(before.bottom):
            top = makers.get((i, j))
            if readers[top] > 1:
                layer.bottom[j] = f"{split_name(original, top, name)}_{taken[top]}"
                taken[top] += 1
        for j in range(len(before.top)):
            if readers[i, j] > 1:
                taken[i, j] = add_split(result.message, original, (i, j), readers[i, j])
                if taken[i, j]:
                    layer.ClearField("loss_weight")
    result.moved = {("layer", new): ("layer", i) for i, new in moved.items()}
    result.moved |= {("layer", moved[old[1]], *old[2:]): to for old, to in document.moved.items() if old[1:]}
    return result


def wiring(net, state) -> tuple[dict[tuple[int, int], Top], Counter]:
    """(layer, bottom) -> the top that it reads, and how often each top is read; as a loss counts too."""
    makers, readers, latest = {}, Counter(), {}
    for i, layer in enumerate(net.layer):
        if not (layer.include and layer.exclude) and not is_included(state, layer):
            continue
        for j, name in enumerate(layer.bottom):
            if name in latest:  # else the graph says what is wrong
                makers[i, j] = latest[name]
                readers[latest[name]] += 1
        for j, name in enumerate(layer.top):
            latest[name] = (i, j)
            readers[i, j] += bool(j < len(layer.loss_weight) and layer.loss_weight[j])
    return makers, readers


def split_name(net, top: Top, blob: str) -> str:
    return f"{blob}_{net.layer[top[0]].name}_{top[1]}_split"


def add_split(message, net, top: Top, count: int) -> int:
    """Appends the Split layer of a top; its first blob takes over a loss weight. 0 if there is none."""
    maker, blob = net.layer[top[0]], net.layer[top[0]].top[top[1]]
    name = split_name(net, top, blob)
    split = message.layer.add(name=name, type="Split", bottom=[blob])
    split.top.extend(f"{name}_{k}" for k in range(count))
    weight = maker.loss_weight[top[1]] if top[1] < len(maker.loss_weight) else 0
    if weight:
        split.loss_weight.extend([weight] + [0] * (count - 1))
    return int(bool(weight))
