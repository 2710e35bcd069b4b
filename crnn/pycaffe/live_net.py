"""LiveNet: a net whose every blob has memory of its own, written and read by whoever holds its arrays.

Layers run one by one, as Caffe's do (Net::ForwardFromTo and BackwardFromTo): a layer's forward reads its
bottoms' `data` and overwrites its tops', its backward reads its tops' `diff`, overwrites its bottoms' and
adds to its parameters'. autograd serves inside each layer only.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from crnn.net.graph import Node, net_state
from crnn.net.needs import backward_needs
from crnn.net.net import PHASES, Net, run
from crnn.net.problems import read
from crnn.net.splits import with_splits

from .blob import Blob, ParamBlob

SHARES_VALUES = ("Split", "Flatten", "Reshape")  # whose tops' data are their bottom's, in Caffe too
SHARES_SLOPES = ("Flatten", "Reshape")  # and their diffs
ONCE = ("BatchNorm", "Dropout", "LSTM", "Pooling", "Python", "RNN")  # may do otherwise in a second forward


@dataclass
class Call:
    """One forward of a layer, kept for its backward."""

    bottoms: list[Tensor]
    tops: tuple[Tensor, ...]
    stamp: tuple  # where and what the parameters and bottoms were
    values: list[Tensor | None]  # copies of the bottoms that others may write; None of the rest


class LiveNet(Net):
    """See the module's text. Blobs are made, on the net's device, when `live` is first asked for.

    live       name -> Blob, in the order in which the layers make them
    own_blobs  for each layer its ParamBlobs
    callbacks  "before_forward", "after_forward", "before_backward", "after_backward": called with the layer's
               index
    """

    def __init__(self, source, phase: str = "TRAIN", weights=None, stages=(), level: int = 0):
        """As crnn.Net, and raises the same."""
        problems = read(source)
        if not problems.found:
            message = problems.document.message
            source = with_splits(problems.document, net_state(message, PHASES[phase], stages, level))
        super().__init__(source, phase, weights, stages, level)
        if self.force_backward:
            for param in self.params:  # Caffe computes these diffs too; solvers leave them out
                param.parameter.requires_grad_(param.owner.type != "BatchNorm")
        self.needs = backward_needs(self.nodes, self.force_backward)
        self.calls: dict[int, Call] = {}
        names = ("before_forward", "after_forward", "before_backward", "after_backward")
        self.callbacks: dict[str, list[Callable[[int], None]]] = {name: [] for name in names}

    @cached_property
    def live(self) -> dict[str, Blob]:
        live = {}
        for node in self.nodes:
            constants = getattr(node.layer, "constants", {})
            weights = node.param.loss_weight or [0] * len(node.tops)
            for j, (name, shape) in enumerate(zip(node.tops, node.layer.top_shapes, strict=True)):
                blob = live.setdefault(name, Blob(torch.zeros(shape, device=self.like.device)))
                if node.layer.type in SHARES_VALUES:
                    blob.share_values(live[node.bottoms[0]], shape, node.layer.type in SHARES_SLOPES)
                if j in constants:
                    blob.set_values(constants[j])
                if node.layer.type == "Python" and name not in node.bottoms:
                    blob.set_values(node.layer.top[j].tensor)  # what its setup filled
                if weights[j]:
                    blob.gradient().fill_(weights[j])  # where the layer's backward begins; it stays
        return live

    @cached_property
    def own_blobs(self) -> list[list[ParamBlob]]:
        every, owners = [], {}
        for layer in self.layers:
            parameters = [layer.blobs.parameter(i) for i in range(len(layer.blobs))]
            blobs = [ParamBlob(p, layer.blobs.shapes.get(i)) for i, p in enumerate(parameters)]
            for blob in blobs:
                owner = owners.setdefault(id(blob.tensor), blob)
                blob._values, blob._slopes = owner._values, owner._slopes
            every.append(blobs)
        return every

    def forward(self, *args, **blobs) -> dict[str, Tensor]:
        """All layers; `blobs` are written before and keep the layers that would make them from running."""
        given = self.given(args, blobs)
        for name, value in given.items():
            self.live[name].set_values(value)
        self.forward_layers(0, len(self.nodes) - 1, given)
        return {name: self.blobs[name] for name in self.outputs}

    def rerun(self, first: str) -> dict[str, Tensor]:
        start = [node.layer.name for node in self.nodes].index(first)
        made = [top for node in self.nodes if node.layer.source for top in node.tops]
        self.forward_layers(start, len(self.nodes) - 1, made)
        return {name: self.blobs[name] for name in self.outputs}

    def forward_layers(self, first: int, last: int, given=()) -> float:
        """Layers `first` to `last`, but no source of a blob in `given`; the sum of their losses."""
        self.push()
        loss = 0.0
        for i in range(first, last + 1):
            node = self.nodes[i]
            self.tell("before_forward", i)
            if not node.layer.source:
                self.forward_layer(i)
            elif node.layer.type != "Input" and not any(top in given for top in node.tops):
                self.fill(node)
            self.tell("after_forward", i)
            for name, weight in zip(node.tops, node.param.loss_weight, strict=False):
                loss += weight * self.live[name].tensor.sum().item() if weight else 0.0
        self.blobs = {name: blob.values() for name, blob in self.live.items()}
        return loss

    def tell(self, moment: str, layer: int) -> None:
        for callback in self.callbacks[moment]:
            callback(layer)

    def push(self) -> None:
        """What was written into arrays, to where the net computes."""
        for blob in itertools.chain(self.live.values(), *self.own_blobs):
            blob.push()

    def fill(self, node: Node) -> None:
        """A source's next batch; what a filler made once, and a user may have changed since, stays."""
        constants = getattr(node.layer, "constants", {})
        if node.layer.type == "DummyData":
            node.layer.top_shapes = [self.live[name].shape for name in node.tops]
        self.show_tops(node)
        for j, (name, value) in enumerate(zip(node.tops, run(node, []), strict=True)):
            if j not in constants:
                self.live[name].set_values(torch.as_tensor(value))

    def forward_layer(self, i: int) -> None:
        node = self.nodes[i]
        call = self.call(i, self.needs[i].layer and torch.is_grad_enabled())
        for j, (name, top) in enumerate(zip(node.tops, call.tops, strict=True)):
            grown = self.live[name].shape != tuple(top.shape)
            if node.layer.type in SHARES_VALUES:
                slopes = node.layer.type in SHARES_SLOPES
                self.live[name].share_values(self.live[node.bottoms[0]], top.shape, slopes)
            else:
                self.live[name].set_values(top)
            if grown and node.param.loss_weight:
                self.live[name].gradient().fill_(node.param.loss_weight[j])

    def call(self, i: int, grad: bool) -> Call:
        """Runs a layer on its bottoms as they are, without a word to its tops."""
        node, need = self.nodes[i], self.needs[i]
        bottoms = [self.bottom(node, j) for j in range(len(node.bottoms))]
        for x, wanted in zip(bottoms, need.bottoms, strict=True):
            x.requires_grad_(grad and wanted)
        seen = [self.live[name]._values.asked and name not in node.tops for name in node.bottoms]
        values = [x.detach().clone() if grad and one else None for x, one in zip(bottoms, seen, strict=True)]
        self.show_tops(node)
        with torch.set_grad_enabled(grad):
            call = Call(bottoms, run(node, bottoms), self.stamp(node), values)
        self.calls.pop(i, None)
        if grad:
            self.calls[i] = call
        return call

    def bottom(self, node: Node, j: int) -> Tensor:
        """A leaf with the blob's memory; with a copy of it where the layer will overwrite it."""
        values = self.live[node.bottoms[j]].values().detach()
        return values.clone() if node.bottoms[j] in node.tops else values

    def show_tops(self, node: Node) -> None:
        """A Python layer's tops begin with the values of the net's blobs, which they are in Caffe."""
        if node.layer.type != "Python":
            return
        for name, top in zip(node.tops, node.layer.top, strict=True):
            if name not in node.bottoms:
                values = self.live[name].values().detach().to("cpu", top.tensor.dtype)
                top.show(values.clone())

    def written(self, i: int) -> bool:
        """Whether bottoms of layer i no longer hold what its forward read, as far as that can be told."""
        node, call = self.nodes[i], self.calls[i]
        for name, before in zip(node.bottoms, call.values, strict=True):
            now = self.live[name]
            if before is None and now._values.asked and name not in node.tops:
                return True  # asked for only since
            if before is not None and not torch.equal(before, now.values()):
                return True
        return False

    def stamp(self, node: Node) -> tuple:
        bottoms = [self.live[name].tensor for name in node.bottoms]
        return (
            *((p.data_ptr(), p._version) for p in node.layer.parameters()),
            *((x.data_ptr(), x.shape) for x in bottoms),
        )

    def backward_layers(self, first: int, last: int) -> None:
        """Layers `first` down to `last`, from the diffs that the tops have."""
        self.push()
        for i in range(first, last - 1, -1):
            self.tell("before_backward", i)
            if self.needs[i].layer:
                self.backward_layer(i)
            self.tell("after_backward", i)

    def backward_layer(self, i: int) -> None:
        node, call = self.nodes[i], self.calls.get(i)
        if call is None or call.stamp != self.stamp(node):
            call = self.call(i, True)  # nobody ran it, or on other blobs: it draws its masks anew
        elif node.layer.type not in ONCE and self.written(i):
            call = self.call(i, True)  # Caffe's backward reads the bottoms as they are now
        params = [p for p in node.layer.parameters() if p.requires_grad]
        bottoms = [x for x in call.bottoms if x.requires_grad]
        pairs = [(y, self.live[name].slopes()) for name, y in zip(node.tops, call.tops, strict=True)]
        pairs = [(y, dy) for y, dy in pairs if y.requires_grad]
        if not pairs:
            return
        tops, dtops = zip(*pairs, strict=True)
        grads = torch.autograd.grad(tops, bottoms + params, dtops, retain_graph=True, allow_unused=True)
        for param, grad in zip(params, grads[len(bottoms) :], strict=True):
            if grad is not None:
                add_gradient(param, grad)
        grads = iter(grads)
        for name, x in zip(node.bottoms, call.bottoms, strict=True):
            if x.requires_grad:
                self.live[name].set_slopes(next(grads))

    def clear_param_diffs(self) -> None:
        for blob in itertools.chain(*self.own_blobs):
            blob.set_slopes(None)

    def share_weights(self, other: "LiveNet") -> None:
        """Uses the memory of `other`'s blobs, by layer name; diffs stay its own, as in Caffe."""
        theirs = {layer.name: blobs for layer, blobs in zip(other.layers, other.own_blobs, strict=True)}
        for layer, mine in zip(self.layers, self.own_blobs, strict=True):
            shared = theirs.get(layer.name, mine)
            if [blob.shape for blob in mine] != [blob.shape for blob in shared]:
                here, there = ([list(blob.shape) for blob in blobs] for blobs in (mine, shared))
                raise ValueError(
                    f"layer {layer.name!r} has blobs {here}, but {there} in the net it shares with"
                )
            for blob, source in zip(mine, shared, strict=True):
                if blob is not source:
                    blob.share(source)


def add_gradient(param: nn.Parameter, grad: Tensor) -> None:
    """Into the memory that `diff` shows."""
    if param.grad is None:
        param.grad = torch.zeros_like(param)
    param.grad.data.add_(grad)
