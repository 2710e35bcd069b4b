"""Nets and solvers of older Caffes in today's form.

Source: src/caffe/util/upgrade_proto.cpp. The order is Caffe's: V0 -> V1, the data layers' transform fields,
V1 -> V2, input fields, BatchNorm. A net of today's form passes unchanged.
"""

import os
from collections.abc import Iterator

from google.protobuf.message import Message

from crnn.proto import messages as pb
from crnn.proto.legacy import Problems, fold_v0_padding, move_transform_fields, v0_to_v1, v1_to_v2
from crnn.proto.parser import Path
from crnn.proto.text import Document, PrototxtError, load

_SOLVER_TYPES = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")  # by number of the old enum


def read_net(path_or_text: str | os.PathLike) -> Document:
    """The NetParameter of a prototxt in today's form; `where("layer", i)` names the place it was read at.

    Raises OSError, PrototxtError.
    """
    document = load(path_or_text, pb.NetParameter)
    _upgrade_document(document, [((), document.message)])
    return document


def read_solver(path_or_text: str | os.PathLike) -> Document:
    """The SolverParameter of a prototxt as `load_solver` gives it, with a snapshot_prefix.

    A missing snapshot_prefix becomes the file's path without extension; a folder gets the file's stem.
    Raises OSError, PrototxtError.
    """
    document = load_solver(path_or_text)
    solver = document.message
    if document.name != "<text>":
        path = os.path.splitext(document.name)[0]
        if not solver.HasField("snapshot_prefix"):
            solver.snapshot_prefix = path
        elif os.path.isdir(solver.snapshot_prefix):
            solver.snapshot_prefix = os.path.join(solver.snapshot_prefix, os.path.basename(path))
    return document


def load_solver(path_or_text: str | os.PathLike) -> Document:
    """The SolverParameter of a prototxt, with type in place of solver_type, and nets in it upgraded.

    Raises OSError, PrototxtError.
    """
    document = load(path_or_text, pb.SolverParameter)
    solver = document.message
    if solver.HasField("solver_type"):
        if solver.HasField("type"):
            place = document.where("solver_type")
            raise PrototxtError([f"{place}: solver_type is the old form of type; give one of them"], document)
        solver.type = _SOLVER_TYPES[solver.solver_type]
        solver.ClearField("solver_type")
    _upgrade_document(document, list(_inline_nets(solver)))
    return document


def upgrade_net(net: Message) -> None:
    """Brings a NetParameter to today's form, in place. Raises ValueError with all that stands in the way."""
    problems: Problems = []
    _upgrade(net, problems)
    if problems:
        raise ValueError("; ".join(text for _, text in problems))


def _inline_nets(solver: Message) -> Iterator[tuple[Path, Message]]:
    for name in ("net_param", "train_net_param"):
        if solver.HasField(name):
            yield (name,), getattr(solver, name)
    for i, net in enumerate(solver.test_net_param):
        yield ("test_net_param", i), net


def _upgrade_document(document: Document, nets: list[tuple[Path, Message]]) -> None:
    """Upgrades nets, each at a path of document; notes in document.moved where their layers stood."""
    sentences: list[str] = []
    for prefix, net in nets:
        problems: Problems = []
        origins = _upgrade(net, problems)
        document.moved.update(((*prefix, "layer", i), prefix + origin) for i, origin in enumerate(origins))
        sentences += [f"{document.where(*prefix, *path)}: {text}" for path, text in problems]
    if sentences:
        raise PrototxtError(sentences, document)


def _upgrade(net: Message, problems: Problems) -> list[Path]:
    """Upgrades net in place. Returns the path that each of its layers had before; adds to problems."""
    origins = [("layers", i) for i in range(len(net.layers))]
    if net.layers and net.layer:
        text = "`layers` is the old form of `layer`; a net cannot mix them: rewrite these"
        problems.append((("layers", 0), text))
        return origins
    if any(layer.HasField("layer") for layer in net.layers):
        fold_v0_padding(net, origins, problems)
        for layer, origin in zip(net.layers, origins, strict=True):
            v0_to_v1(layer, origin, problems)
    for layer in net.layers:
        move_transform_fields(layer)
        v1_to_v2(layer, net.layer.add())
    net.ClearField("layers")
    origins = origins or [("layer", i) for i in range(len(net.layer))]
    _input_fields_to_layer(net, origins, problems)
    for layer in net.layer:
        if layer.type == "BatchNorm" and len(layer.param) == 3:  # its blobs are statistics, not weights
            for param in layer.param:
                param.lr_mult = param.decay_mult = 0
    return origins


def _input_fields_to_layer(net: Message, origins: list[Path], problems: Problems) -> None:
    """Makes an Input layer, the first, of `input` with input_shape or input_dim; without, drops `input`."""
    if not net.input:
        return
    shapes = [shape.dim for shape in net.input_shape]
    shapes = shapes or [net.input_dim[i : i + 4] for i in range(0, len(net.input_dim), 4)]
    shapes, given = shapes[: len(net.input)], bool(shapes)  # Caffe reads no more than it needs
    if given and (len(shapes) < len(net.input) or (not net.input_shape and len(shapes[-1]) != 4)):
        field = "input_shape" if net.input_shape else "input_dim"
        wanted = len(net.input) * (1 if net.input_shape else 4)
        text = f"{len(net.input)} input want {wanted} {field}, got {len(getattr(net, field))}"
        problems.append((("input", 0), text))
    elif given:
        layer = pb.LayerParameter(name="input", type="Input", top=net.input)
        for dim in shapes:
            layer.input_param.shape.add(dim=dim)
        net.layer.insert(0, layer)
        origins.insert(0, ("input", 0))
    for name in ("input", "input_shape", "input_dim"):
        net.ClearField(name)
