"""From a NetParameter to the layers of one phase, wired and shaped; every problem of the net in one error.

Caffe: src/caffe/net.cpp (FilterNet, StateMeetsRule, AppendTop, AppendBottom, AppendParam).
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from crnn.layers import Layer, Shape, build, find
from crnn.layers.base import check_count, check_size
from crnn.proto import pb

from .params import Param, Sharing
from .problems import Problems


@dataclass
class Node:
    """A layer in its place: the blobs it reads and makes, and its definition (phase filled in)."""

    layer: Layer
    param: object
    bottoms: list[str]
    tops: list[str]
    passes_gradient: list[bool]  # into each bottom (`propagate_down`)


@dataclass
class Graph:
    name: str
    force_backward: bool
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)  # of each blob, as last made
    loss_weights: dict[str, float] = field(default_factory=dict)
    params: list[Param] = field(default_factory=list)  # Caffe's learnable_params: each owner once
    outputs: list[str] = field(default_factory=list)  # tops that nobody reads, alphabetical


def net_state(net, phase: int, stages: Iterable[str] = (), level: int | None = 0):
    """The NetState that decides: the file's own `state`, its level if `level` is None, then what the caller
    says. Caffe: Net::Net in src/caffe/net.cpp."""
    state = pb.NetState()
    state.CopyFrom(net.state)
    state.phase = phase
    state.stage.extend(stage for stage in stages if stage not in state.stage)
    state.level = state.level if level is None else level
    return state


def meets(state, rule) -> bool:
    """Whether all that a NetStateRule states holds."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and all(stage in state.stage for stage in rule.stage)
        and not any(stage in state.stage for stage in rule.not_stage)
    )


def is_included(state, param) -> bool:
    """Whether the layer belongs to the net of this state; ValueError for rules of both kinds."""
    if param.include and param.exclude:
        raise ValueError("has include and exclude rules; use one kind")
    if param.include:
        return any(meets(state, rule) for rule in param.include)
    return not any(meets(state, rule) for rule in param.exclude)


def build_graph(problems: Problems, state) -> Graph:
    """The net of a document in `state`. Raises PrototxtError with the problems of its text and all others."""
    return _Builder(problems, state).build()


class _Builder:
    """Goes through the layers once. A blob whose maker failed is `unknown`; its readers are not blamed."""

    def __init__(self, problems: Problems, state):
        self.problems, self.document, self.state = problems, problems.document, state
        self.net = self.document.message
        self.graph = Graph(self.net.name, self.net.force_backward)
        self.made_at: dict[str, str] = {}  # blob -> place of its first maker
        self.unknown: set[str] = set()
        self.unread: set[str] = set()
        self.left_out: dict[str, str] = {}  # tops of layers that this state leaves out
        self.named: dict[str, int] = {}  # layers with blobs
        self.sharing = Sharing()

    def build(self) -> Graph:
        for index, param in enumerate(self.net.layer):
            try:
                included = is_included(self.state, param)
            except ValueError as error:
                self.report(index, str(error))
                self.make(index, param, None)
                continue
            if included:
                self.add(index, param)
            else:
                self.left_out.update(dict.fromkeys(param.top, param.name))
        self.problems.raise_any()
        self.graph.params = self.sharing.finish()
        self.graph.outputs = sorted(self.unread)
        return self.graph

    def report(self, index: int, problem: str, *path) -> None:
        param = self.net.layer[index]
        self.problems.add(f"layer {param.name!r} ({param.type}): {problem}", "layer", index, *path)

    def add(self, index: int, original) -> None:
        param = pb.LayerParameter()
        param.CopyFrom(original)
        param.ClearField("blobs")
        if not param.HasField("phase"):
            param.phase = self.state.phase
        misread = index in self.problems.misread
        before = len(self.problems.found)
        kind = self.kind(index, param) if param.type or not misread else None
        unnamed = kind is not None and kind.is_loss and not param.top
        if unnamed:  # Caffe: AutoTopBlobs
            taken = sum(name.startswith("(automatic") for name in self.made_at)
            param.top.append(f"(automatic {taken + 1})" if taken else "(automatic)")
        shapes = self.read(index, param)
        self.check_tops(index, param, kind)
        if kind and not misread:
            self.check_counts(index, param, kind)
        sound = shapes is not None and not misread and len(self.problems.found) == before
        self.make(index, param, self.construct(index, param, shapes) if sound else None)
        if unnamed:
            self.unread.difference_update(param.top)

    def kind(self, index: int, param) -> type[Layer] | None:
        try:
            return find(param.type)
        except ValueError as error:
            self.problems.add(f"layer {param.name!r}: {error}", "layer", index, "type")
            return None

    def read(self, index: int, param) -> list[Shape] | None:
        """The bottoms' shapes, or None if one of them is missing or came from a layer with a problem."""
        known = True
        for j, name in enumerate(param.bottom):
            self.unread.discard(name)
            if name not in self.made_at and not self.problems.incomplete:
                self.report(index, self.missing(index, name), "bottom", j)
            known = known and name in self.graph.shapes and name not in self.unknown
        return [self.graph.shapes[name] for name in param.bottom] if known else None

    def missing(self, index: int, name: str) -> str:
        if name in self.left_out:
            phase = "TRAIN" if self.state.phase == pb.TRAIN else "TEST"
            return (
                f"bottom {name!r} is made by layer {self.left_out[name]!r}, which this {phase} net leaves out"
            )
        later = [layer.name for layer in self.net.layer[index + 1 :] if name in layer.top]
        if later:
            return f"bottom {name!r} is made only later, by layer {later[0]!r}"
        near = difflib.get_close_matches(name, self.made_at, 1)
        return f"bottom {name!r} is made by no layer" + (f"; did you mean {near[0]!r}?" if near else "")

    def check_tops(self, index: int, param, kind) -> None:
        for j, name in enumerate(param.top):
            if j < len(param.bottom) and param.bottom[j] == name:
                if kind and not kind.in_place:
                    self.report(index, f"cannot work in place: give top {name!r} another name", "top", j)
                elif name in self.graph.loss_weights:
                    problem = (
                        f"works in place on {name!r}, which has a loss_weight: give its top another name"
                    )
                    self.report(index, problem, "top", j)
            elif name in self.made_at:
                self.report(index, f"top {name!r} is already made at {self.made_at[name]}", "top", j)
            elif name in param.top[:j]:
                self.report(index, f"top {name!r} is named twice", "top", j)

    def check_counts(self, index: int, param, kind) -> None:
        for what, names, limits in (("bottom", param.bottom, kind.bottoms), ("top", param.top, kind.tops)):
            try:
                check_count(what, len(names), limits)
            except ValueError as error:
                self.report(index, str(error))
        if len(param.propagate_down) not in (0, len(param.bottom)):
            self.report(index, f"propagate_down is for each of {len(param.bottom)} bottoms or for none")
        if len(param.loss_weight) not in (0, len(param.top)):
            self.report(index, f"loss_weight is for each of {len(param.top)} tops or for none")

    def construct(self, index: int, param, shapes: list[Shape]) -> Layer | None:
        try:
            layer = build(param, shapes)
            for shape in layer.top_shapes:
                check_size(shape)
            self.check_name(index, layer)
            self.sharing.add(layer, param)
        except (ValueError, OSError) as error:
            self.report(index, str(error))
            return None
        if layer.is_loss and not param.loss_weight:
            param.loss_weight.extend(float(j == 0) for j in range(len(param.top)))
        bottoms = list(param.bottom)
        passes = [] if self.net.force_backward else list(param.propagate_down)  # it overrides them
        self.graph.nodes.append(Node(layer, param, bottoms, list(param.top), passes or [True] * len(bottoms)))
        return layer

    def check_name(self, index: int, layer: Layer) -> None:
        """Two layers with blobs must not have one name: weights are stored under it."""
        if not len(layer.blobs):
            return
        first = self.named.setdefault(layer.name, index)
        if first != index:
            raise ValueError(f"the name is already taken at {self.document.where('layer', first)}")

    def make(self, index: int, param, layer: Layer | None) -> None:
        """Notes the tops, with their shapes if the layer could be built."""
        for j, name in enumerate(param.top):
            written = ("top", j) if j < len(self.net.layer[index].top) else ()
            self.made_at.setdefault(name, self.document.where("layer", index, *written))
            self.unread.add(name)
            if layer is None:
                self.unknown.add(name)
                continue
            self.graph.shapes[name] = tuple(layer.top_shapes[j])
            if param.loss_weight and param.loss_weight[j]:
                self.graph.loss_weights[name] = param.loss_weight[j]
