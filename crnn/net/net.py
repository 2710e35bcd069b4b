"""Net: a prototxt as a torch module. Caffe: src/caffe/net.cpp."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from crnn.layers import Layer
from crnn.proto import pb

from . import weights as weight_files
from .graph import Node, build_graph, net_state
from .problems import read

PHASES = {"TRAIN": pb.TRAIN, "TEST": pb.TEST}
#: Layers whose tops hold the bottoms' values as they are.
MOVERS = ("BatchReindex", "Concat", "Flatten", "Reshape", "Slice", "Split", "Tile")


class Net(nn.Module):
    """The layers that a prototxt has in one phase, run in the order of the file.

        net = Net("train_val.prototxt", phase="TEST", weights="a.caffemodel")
        outputs = net()                 # its own Data layers give the batch
        outputs = net(data=x, label=y)  # skips the layer that makes "data" and "label"

    The phase decides what Dropout and BatchNorm do; `train()` and `eval()` change nothing, as in Caffe.

    blobs         name -> Tensor, of the last forward
    outputs       names of the blobs that no layer reads, alphabetical
    loss_weights  name -> weight, of the blobs that count in `loss()`
    params        Param records: what the solver updates, in Caffe's order, a shared blob once
    """

    def __init__(self, source, phase: str = "TRAIN", weights=None, stages=(), level: int = 0):
        """`source`: path or text of a prototxt, or what `read_net` gives for one.

        Raises PrototxtError with all problems of the net; ValueError or OSError if `weights` do not fit it.
        """
        super().__init__()
        if phase not in PHASES:
            raise ValueError(f"phase must be one of {', '.join(PHASES)}, got {phase!r}")
        problems = read(source)
        document = problems.document
        graph = build_graph(problems, net_state(document.message, PHASES[phase], stages, level))
        self.name, self.phase = graph.name, phase
        self.nodes: list[Node] = graph.nodes
        self.layers = nn.ModuleList(node.layer for node in graph.nodes)
        self.shapes, self.outputs, self.params = graph.shapes, graph.outputs, graph.params
        self.loss_weights, self.force_backward = graph.loss_weights, graph.force_backward
        self.inputs = [top for node in graph.nodes if node.param.type == "Input" for top in node.tops]
        self.index_blobs = index_blobs(graph.nodes)
        self.blobs: dict[str, Tensor] = {}
        self._compiled = None
        # Follows the module's device and dtype, also in a net without parameters.
        self.register_buffer("like", torch.empty(0), persistent=False)
        if any(layer.blobs for layer in document.message.layer):
            weight_files.copy(self, document.message, document.name, weight_files.LoadReport())
        self.load_report = weight_files.load(self, weights) if weights else None

    def layer(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise KeyError(f"net {self.name!r} has no layer {name!r}")

    def forward(self, *args, **blobs) -> dict[str, Tensor]:
        """Runs all layers; returns the output blobs.

        Positional arguments are the Input layers' tops in their order. A blob by keyword replaces the Data or
        other source layer that makes it; all tops of it that are read must be given. Any batch size goes.
        """
        given = self.given(args, blobs)
        self.blobs = {}  # lets go of the graph of the forward before
        if self._compiled:
            for node in self.nodes:
                if node.layer.source:
                    self.blobs.update(self.source(node, given))
            self.blobs.update(self._compiled(self.blobs))
            return {name: self.blobs[name] for name in self.outputs}
        for node in self.nodes:
            if node.layer.source:
                self.blobs.update(self.source(node, given))
            else:
                self.run(node)
        return {name: self.blobs[name] for name in self.outputs if name in self.blobs}

    def compile(self, **options) -> None:
        """From now on torch.compile, with its `options`, runs what follows the sources.

        `blobs` then has the outputs and what counts in `loss()` alone.
        """
        self._compiled = torch.compile(self._all_layers, **options)

    def _all_layers(self, sources: dict[str, Tensor]) -> dict[str, Tensor]:
        blobs = dict(sources)
        for node in self.nodes:
            if not node.layer.source:
                add_tops(node, blobs)
        return {name: blobs[name] for name in {*self.outputs, *self.loss_weights} if name not in sources}

    def rerun(self, first: str) -> dict[str, Tensor]:
        """Runs layer `first` and all after it but sources again, on the blobs of the last forward."""
        start = [node.layer.name for node in self.nodes].index(first)
        for node in self.nodes[start:]:
            if not node.layer.source:
                self.run(node)
        return {name: self.blobs[name] for name in self.outputs if name in self.blobs}

    def run(self, node: Node) -> None:
        add_tops(node, self.blobs)

    def given(self, args, blobs: dict) -> dict:
        """The caller's blobs by name; ValueError for a name or a number of axes that is wrong."""
        if len(args) > len(self.inputs):
            raise ValueError(
                f"net {self.name!r} has {len(self.inputs)} inputs {self.inputs}, got {len(args)}"
            )
        given = {**dict(zip(self.inputs, args, strict=False)), **blobs}
        given = {name: torch.as_tensor(value) for name, value in given.items()}
        sources = {top for node in self.nodes if node.layer.source for top in node.tops}
        for name, value in given.items():
            if name not in sources:
                raise ValueError(
                    f"net {self.name!r} cannot be given {name!r}; its inputs are {sorted(sources)}"
                )
            if value.dim() != len(self.shapes[name]):
                raise ValueError(
                    f"blob {name!r} is {list(self.shapes[name])} in the net, got {list(value.shape)}"
                )
        return given

    def source(self, node: Node, given: dict) -> dict[str, Tensor]:
        """The tops of a layer without bottoms: the caller's, or the layer's own if the caller gives none."""
        tops = {name: given[name] for name in node.tops if name in given}
        if not tops:
            tops = dict(zip(node.tops, run(node, []), strict=True))
        missing = [name for name in node.tops if name not in tops and name not in self.outputs]
        if missing:
            raise ValueError(
                f"{list(tops)} replace layer {node.layer.name!r}, which also makes {missing}: give those too"
            )
        return {name: self.place(name, value) for name, value in tops.items()}

    def place(self, name: str, value) -> Tensor:
        """A source's array on the net's device and in its dtype; class and row numbers keep theirs."""
        blob = torch.as_tensor(value)
        keeps_dtype = name in self.index_blobs
        blob = blob.to(self.like.device, blob.dtype if keeps_dtype else self.like.dtype, non_blocking=True)
        if self.force_backward and not keeps_dtype and not blob.requires_grad:
            blob = blob.detach().requires_grad_()
        return blob

    def loss(self) -> Tensor:
        """Σ loss_weight · blob over the last forward, a scalar."""
        if not self.loss_weights:
            raise ValueError(f"net {self.name!r} has no loss: no *Loss layer and no loss_weight")
        return sum(weight * self.blobs[name].sum() for name, weight in self.loss_weights.items())

    def share_weights(self, other: "Net") -> None:
        """Uses the blobs of `other`'s layers of the same names, as a test net does the train net's."""
        theirs = {layer.name: layer for layer in other.layers}
        for layer in self.layers:
            source = theirs.get(layer.name)
            if source is None:
                continue
            mine, shared = ([tuple(blob.shape) for blob in one.blobs] for one in (layer, source))
            if mine != shared:
                raise ValueError(
                    f"layer {layer.name!r} has blobs {mine}, but {shared} in the net it shares with"
                )
            for index in range(len(source.blobs)):
                layer.blobs.share(index, source.blobs.parameter(index))

    def summary(self) -> str:
        """A table: every layer with its type, tops, number of parameters, and whether it runs backward."""
        from .summary import table

        return table(self)

    def __getstate__(self) -> dict:
        """Without the last forward's blobs, whose graph cannot be copied."""
        return {**self.__dict__, "blobs": {}, "_compiled": None}

    def __repr__(self) -> str:
        return self.summary()


def index_blobs(nodes: Iterable[Node]) -> set[str]:
    """The blobs that hold class or row numbers, also by way of layers that only move values."""
    found = {node.bottoms[i] for node in nodes for i in node.layer.indices}
    for node in reversed(list(nodes)):
        if node.param.type in MOVERS and found.issuperset(node.tops):
            found.update(node.bottoms)
    return found


def add_tops(node: Node, blobs: dict[str, Tensor]) -> None:
    """Adds what the layer makes of the blobs, past which gradients go only where they are to."""
    passes = zip(node.bottoms, node.passes_gradient, strict=True)
    bottoms = [blobs[name] if passed else blobs[name].detach() for name, passed in passes]
    blobs.update(zip(node.tops, run(node, bottoms), strict=True))


def run(node: Node, bottoms: list[Tensor]) -> tuple:
    """The layer's forward. Its ValueErrors (as a label out of range) and torch's RuntimeErrors (as an image
    that a kernel does not fit into) get the layer's name.

    Losses compute in float32 under autocast: their scaled gradients would overflow float16.
    """
    layer, device = node.layer, bottoms[0].device.type if bottoms else "cpu"
    try:
        if not (layer.is_loss and torch.is_autocast_enabled(device)):
            return layer(*bottoms)
        with torch.autocast(device, enabled=False):
            return layer(*(b.float() if b.dtype in (torch.float16, torch.bfloat16) else b for b in bottoms))
    except (ValueError, RuntimeError) as error:
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        if kind is RuntimeError and type(error) is not RuntimeError:  # one with a meaning, as for memory
            raise
        raise kind(f"layer {layer.name!r} ({layer.type}): {error}") from error
