"""debug_info: what Caffe logs of every blob, its mean absolute value as it is made and that of its diff.

Caffe: Net::ForwardDebugInfo, BackwardDebugInfo and Backward in src/caffe/net.cpp; nobody calls the third of
their kind, UpdateDebugInfo, in Caffe 1.0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from .graph import Node, net_state
from .needs import Need, backward_needs
from .net import PHASES, Net, run
from .problems import read
from .splits import with_splits

Line = tuple[str, str]  # (place in Caffe's source, text)


class DebugNet(Net):
    """A Net with Caffe's Split layers that tells `say`, where that is set, of what it computes.

    say: takes a line's place in Caffe's source, its text and its severity, "I" or "E". The forward's lines
    come as the layers run, the backward's when say_backward() is called after it.
    """

    def __init__(self, source, phase: str = "TRAIN", weights=None, stages=(), level: int = 0):
        """As crnn.Net, and raises the same."""
        problems = read(source)
        if not problems.found:
            message = problems.document.message
            source = with_splits(problems.document, net_state(message, PHASES[phase], stages, level))
        super().__init__(source, phase, weights, stages, level)
        needs = backward_needs(self.nodes, self.force_backward)
        self._need = {node.layer.name: need for node, need in zip(self.nodes, needs, strict=True)}
        self.say: Callable[..., None] | None = None
        self._slopes: dict[tuple, Tensor] = {}  # (layer, "bottom" or "param", number) -> share of the diff
        self._before: dict[int, Tensor] = {}  # the parameters' diffs before this pass

    def forward(self, *args, **blobs) -> dict[str, Tensor]:
        self._slopes.clear()
        if self.say:
            grads = {id(p.parameter): p.parameter.grad for p in self.params}
            self._before = {key: grad.clone() for key, grad in grads.items() if grad is not None}
        return super().forward(*args, **blobs)

    def source(self, node: Node, given: dict) -> dict[str, Tensor]:
        tops = super().source(node, given)
        self._tell(forward_lines(node, tops))
        return tops

    def run(self, node: Node) -> None:
        if self.say is None:
            super().run(node)
            return
        need = self._need[node.layer.name]
        bottoms = []
        for j, (name, passes) in enumerate(zip(node.bottoms, node.passes_gradient, strict=True)):
            blob = self.blobs[name] if passes else self.blobs[name].detach()
            if need.bottoms[j] and not blob.requires_grad and torch.is_grad_enabled():
                blob = blob.detach().requires_grad_()  # Caffe computes diffs down to where a gradient is cut
            bottoms.append(self._watched(blob, node, "bottom", j))
        blobs = node.layer.blobs
        blobs.taken = [self._watched(blob, node, "param", i) for i, blob in enumerate(blobs)]
        try:
            tops = run(node, bottoms)
        finally:
            blobs.taken = None
        self.blobs.update(zip(node.tops, tops, strict=True))
        self._tell(forward_lines(node, self.blobs))

    def _watched(self, blob: Tensor, node: Node, what: str, number: int) -> Tensor:
        """The same values, whose gradient by this one reader is kept."""
        blob = blob.view_as(blob)
        if blob.requires_grad:
            blob.register_hook(partial(self._slopes.__setitem__, (node.layer.name, what, number)))
        return blob

    def say_backward(self) -> None:
        """Tells of the backward pass that is over."""
        if self.say is None:
            return
        diffs = dict(self._before)  # as they stand when the layer at hand has run
        for node in reversed(self.nodes):
            layer = node.layer
            bottoms = [self._slopes.get((layer.name, "bottom", j)) for j in range(len(node.bottoms))]
            params = []
            for i in range(len(layer.blobs)):
                owner, share = layer.blobs.parameter(i), self._slopes.get((layer.name, "param", i))
                if share is not None:
                    share = share.view(owner.shape)
                    diffs[id(owner)] = diffs[id(owner)] + share if id(owner) in diffs else share
                params.append(diffs.get(id(owner)))
            self._tell(backward_lines(node, self._need[layer.name], bottoms, params))
        self._tell([total_line(self)], "E")

    def _tell(self, lines, severity: str = "I") -> None:
        if self.say:
            for line in lines:
                self.say(*line, severity)


def as_told(source, say: Callable[..., None], **options) -> Net:
    """The Net of a prototxt; where that says debug_info, one that tells `say`. Raises as Net."""
    if not read(source).document.message.debug_info:
        return Net(source, **options)
    net = DebugNet(source, **options)
    net.say = say
    return net


def forward_lines(node: Node, blobs: Mapping[str, Tensor]) -> Iterator[Line]:
    """Of a layer that has run: its tops, those that `blobs` has, and what it learns."""
    head = f"    [Forward] Layer {node.layer.name}, "
    for name in node.tops:
        if name in blobs:
            yield "net.cpp:593", f"{head}top blob {name} data: {mean_size(blobs[name])}"
    for i, blob in enumerate(node.layer.blobs):
        name = (node.param.param[i].name if i < len(node.param.param) else "") or i
        yield "net.cpp:605", f"{head}param blob {name} data: {mean_size(blob)}"


def backward_lines(
    node: Node, need: Need, bottoms: Sequence[Tensor | None], params: Sequence[Tensor | None]
) -> Iterator[Line]:
    """Of a layer whose backward has run: the diffs of its bottoms and of what it learns; None is zeros."""
    if not need.layer:
        return
    head = f"    [Backward] Layer {node.layer.name}, "
    for name, wanted, diff in zip(node.bottoms, need.bottoms, bottoms, strict=True):
        if wanted:
            yield "net.cpp:621", f"{head}bottom blob {name} diff: {mean_size(diff)}"
    for i, diff in enumerate(params):
        if node.layer.blobs.parameter(i).requires_grad:
            yield "net.cpp:632", f"{head}param blob {i} diff: {mean_size(diff)}"


def total_line(net: Net) -> Line:
    """Of all learnable blobs, each shared one once."""
    data = [p.parameter.detach().double().flatten() for p in net.params]
    diff = [p.parameter.grad.double().flatten() for p in net.params if p.parameter.grad is not None]
    l1 = ", ".join(f"{sum(float(x.abs().sum()) for x in part):g}" for part in (data, diff))
    l2 = ", ".join(f"{sum(float(x.square().sum()) for x in part) ** 0.5:g}" for part in (data, diff))
    text = f"    [Backward] All net params (data, diff): L1 norm = ({l1}); L2 norm = ({l2})"
    return "net.cpp:721", text


def mean_size(blob: Tensor | None) -> str:
    """Σ|x| / n, as C++ streams print it."""
    return "0" if blob is None else f"{blob.detach().abs().mean(dtype=torch.float64).item():g}"
