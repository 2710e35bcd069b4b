"""Insertion of L-RNNs into a trained model (Xie 2016, section 4 and appendix B)."""

import difflib
from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from crnn.ops.plan import CASCADES

from .scale_rnn import ScaleRNN
from .spatial_rnn import SpatialRNN

_RELUS = (F.relu, torch.relu, "relu", "relu_", torch.relu_)


class InsertedRNN(nn.Module):
    """Spatial RNNs over the map z that a trained layer gives; at first they change nothing.

        h_s = relu(z_s + V h_{s-1})    in two directions, their mean; V = 0 in the beginning

    Where z goes into a relu alone, that is what comes out: the paper's insertion, the relu of h being h.
    Elsewhere (a batch normalisation or a sum follows) only what the recurrence adds comes out with z:
    z + (h - relu(z)).

    Args:
        num_output: D, the channels of z.
        where: "horizontal", "vertical", or "both", one after the other.
        before_relu: whether a relu alone reads the result.

    Parameters: rnns.<n>.weight_hh [2, D, D].
    """

    def __init__(self, num_output: int, where: str, before_relu: bool = True):
        super().__init__()
        self.before_relu = before_relu
        self.rnns = nn.Sequential(
            *(
                SpatialRNN(num_output, num_output, pair, "reset", "relu", combine="mean", project_input=False)
                for pair in CASCADES[where]
            )
        )

    def forward(self, z: Tensor) -> Tensor:
        """[N, D, H, W] -> [N, D, H, W]."""
        h = self.rnns(z)
        return h if self.before_relu else z + (h - torch.relu(z))

    def extra_repr(self) -> str:
        return f"before_relu={self.before_relu}"


def insert_rnn(model: nn.Module, layers: Mapping[str, str]) -> nn.Module:
    """`model` with an `InsertedRNN` after each of `layers`; its outputs, where finite, keep their bits.

    The model is changed in place: the layer "a.b" becomes nn.Sequential(layer, InsertedRNN), with parameters
    "a.b.0..." and "a.b.1...". Whether a relu alone reads a layer is found by torch.fx; in a model that it
    cannot trace, by the next module of an nn.Sequential.

    Args:
        model: any module that holds the layers.
        layers: name, as `model.get_submodule` takes it, of a module with a number of output channels (a
            convolution, a batch normalisation) -> "horizontal", "vertical" or "both".

    Raises:
        ValueError: an unknown name or word, or a module whose channels cannot be told.
    """
    modules, graph, additions = dict(model.named_modules()), _graph(model), {}
    for name, where in layers.items():
        if not name or name not in modules:
            near = difflib.get_close_matches(name, modules, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"the model has no module {name!r}{hint}")
        if where not in CASCADES:
            raise ValueError(f"{name!r}: unknown {where!r}; known: {', '.join(CASCADES)}")
        rnn = InsertedRNN(_channels(modules[name], name), where, _before_relu(name, modules, graph))
        like = next(modules[name].parameters(), None)
        additions[name] = rnn if like is None else rnn.to(like.device, like.dtype)
    for name, rnn in additions.items():
        parent, _, last = name.rpartition(".")
        layer = modules[name]
        setattr(modules[parent], last, nn.Sequential(layer, rnn.train(layer.training)))
    return model


def _channels(module: nn.Module, name: str) -> int:
    for field in ("out_channels", "num_features", "num_output"):
        if isinstance(getattr(module, field, None), int):
            return getattr(module, field)
    raise ValueError(
        f"{name!r} is a {type(module).__name__}, which does not say its number of output channels: name the "
        "convolution or normalisation before it"
    )


class _Tracer(fx.Tracer):
    """Goes into no module of ours: what these do depends on their map's shape."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        ours = (InsertedRNN, SpatialRNN, ScaleRNN)
        return isinstance(module, ours) or super().is_leaf_module(module, name)


def _graph(model: nn.Module) -> fx.Graph | None:
    """The calls that the model makes; None where they depend on its input."""
    try:
        return _Tracer().trace(model)
    except Exception:  # whatever the model's own code raises when it meets a proxy in place of a tensor
        return None


def _before_relu(name: str, modules: dict, graph: fx.Graph | None) -> bool:
    """Whether a relu and nothing else reads what module `name` gives."""
    if graph is None:
        parent, _, last = name.rpartition(".")
        children = (
            list(modules[parent].named_children()) if isinstance(modules[parent], nn.Sequential) else []
        )
        after = [child for (key, _), (_, child) in pairwise(children) if key == last]
        return bool(after) and isinstance(after[0], nn.ReLU)
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == name]
    readers = [reader for call in calls for reader in call.users]
    return bool(readers) and all(
        reader.target in _RELUS if reader.op != "call_module" else isinstance(modules[reader.target], nn.ReLU)
        for reader in readers
    )
