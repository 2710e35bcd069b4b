"""A net as one torch.export program and as ONNX: plain operations that run without crnn.

A SpatialRNN is unrolled: a MatMul, Add and Relu a region and direction, no loop and no operation of ours.
"""

import importlib.util
import logging
import warnings

import torch
from torch import Tensor, nn

from crnn.net.net import Net
from crnn.ops.backend import use_backend
from crnn.proto.blobs import replacing

_ONE_FILE = 3 << 29  # an ONNX file holds at most 2 GB; larger weights go beside it


class Forward(nn.Module):
    """The net as a function of its Input layers' blobs, in their order, that gives its outputs."""

    def __init__(self, net: Net):
        super().__init__()
        self.net = net

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = tuple(self.net(*inputs).values())
        self.net.blobs = {}  # a program keeps nothing
        return outputs


def program(net: Net, batch: int | None = None) -> torch.export.ExportedProgram:
    """The net in its phase; the inputs have the prototxt's shapes, or `batch` samples.

    Raises ValueError for a net that draws from data layers of its own.
    """
    sources = [node.layer.name for node in net.nodes if node.layer.source and node.param.type != "Input"]
    if sources or not net.inputs:
        raise ValueError(
            f"net {net.name!r} reads its data itself ({', '.join(sources) or 'it has no Input layer'}): "
            "give its deploy.prototxt, whose Input layers say what comes in"
        )
    net.requires_grad_(False)
    shapes = [net.shapes[name] for name in net.inputs]
    inputs = tuple(torch.zeros(batch or shape[0], *shape[1:]) for shape in shapes)
    with use_backend("reference"), torch.no_grad():
        return torch.export.export(Forward(net), inputs)


def write_pt2(path: str, exported: torch.export.ExportedProgram) -> None:
    """Writes what torch.export.load reads."""
    with replacing(path) as part, warnings.catch_warnings(action="ignore"):
        torch.export.save(exported, open(part, "wb"))  # noqa: SIM115 (a path would need the ending .pt2)


def write_onnx(path: str, exported: torch.export.ExportedProgram, inputs: list, outputs: list) -> None:
    """Writes an ONNX file; weights of 1.5 GB and more beside it in <path>.data.

    Raises ValueError naming the extra where the packages are not installed.
    """
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise ValueError("ONNX needs the packages onnx and onnxscript: pip install 'crnn[onnx]'")
    for name in ("torch.onnx", "onnxscript"):
        logging.getLogger(name).setLevel(logging.ERROR)  # they miss torchvision, which no net here needs
    import onnxscript.optimizer

    names = {"input_names": inputs, "output_names": outputs}
    with warnings.catch_warnings(action="ignore"):
        model = torch.onnx.export(exported, dynamo=True, **names, verbose=False, optimize=False)
    # Of its own optimisation only this: the rest takes minutes on an unrolled scan and finds nothing.
    onnxscript.optimizer.fold_constants(model.model)
    onnxscript.optimizer.remove_unused_nodes(model.model)
    size = sum(value.nbytes for value in exported.state_dict.values())
    if size > _ONE_FILE:
        model.save(path, external_data=True)
        return
    with replacing(path) as part:
        model.save(part, external_data=False)
