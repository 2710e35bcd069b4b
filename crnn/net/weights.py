"""Weights of a net from and to .caffemodel files.

Caffe: Net::CopyTrainedLayersFrom and Net::ToProto in src/caffe/net.cpp.
"""

from dataclasses import dataclass, field
from os import fspath

import torch

from crnn.proto import pb
from crnn.proto.blobs import from_array, read_binary, shape_equals, shape_of, to_array, write_binary
from crnn.proto.upgrade import upgrade_net


@dataclass
class LoadReport:
    """What became of the layers with blobs."""

    copied: list[str] = field(default_factory=list)
    filled: list[str] = field(
        default_factory=list
    )  # of the net, in no file: these keep their fillers' values
    ignored: list[str] = field(default_factory=list)  # of a file, not in the net
    misshapen: list[str] = field(default_factory=list)  # sentences; load raises when there are any

    def __str__(self) -> str:
        rows = [(name, getattr(self, name)) for name in ("copied", "filled", "ignored", "misshapen")]
        return "\n".join(f"{name:<10}{len(layers):>4}  {', '.join(layers)}".rstrip() for name, layers in rows)


def load(net, paths) -> LoadReport:
    """Copies blobs into the layers of the same names; of several files ("a,b") the later win.

    Raises ValueError naming every layer whose blobs do not fit; nothing of that file is copied.
    """
    report, names = LoadReport(), [layer.name for layer in net.layers if len(layer.blobs)]
    for path in fspath(paths).split(","):
        if path.endswith((".h5", ".hdf5")):
            raise ValueError(
                f"{path}: HDF5 weights are not supported; use a .caffemodel (snapshot_format: BINARYPROTO)"
            )
        source = read_binary(path, pb.NetParameter)
        upgrade_net(source)
        copy(net, source, path, report)
    report.filled = [name for name in names if name not in report.copied]
    return report


def copy(net, source, path: str, report: LoadReport) -> None:
    """Copies one NetParameter's blobs into the net and notes it in the report."""
    targets, pairs = {layer.name: layer for layer in net.layers}, []
    for stored in source.layer:
        target = targets.get(stored.name)
        if target is None:
            if stored.blobs and stored.name not in report.ignored:
                report.ignored.append(stored.name)
            continue
        problem = mismatch(target, stored)
        if problem:
            report.misshapen.append(problem)
        elif len(target.blobs):
            pairs.append((target, stored))
    if report.misshapen:
        raise ValueError(
            f"{path} does not fit net {net.name!r}: {'; '.join(report.misshapen)}. "
            "To learn a layer from scratch, rename it in the prototxt"
        )
    with torch.no_grad():
        for target, stored in pairs:
            for blob, data in zip(target.blobs, stored.blobs, strict=True):
                try:
                    values = to_array(data)
                except ValueError as error:
                    raise ValueError(f"{path}: layer {stored.name!r}: {error}") from error
                blob.copy_(torch.from_numpy(values.reshape(blob.shape)))
            if target.name not in report.copied:
                report.copied.append(target.name)


def mismatch(target, stored) -> str | None:
    """In one clause, what keeps the stored layer's blobs out of the target, if anything does."""
    if len(stored.blobs) != len(target.blobs):
        return f"layer {target.name!r}: {len(target.blobs)} blobs, in the file {len(stored.blobs)}"
    for index, (blob, data) in enumerate(zip(target.blobs, stored.blobs, strict=True)):
        if not shape_equals(data, tuple(blob.shape)):
            there = list(shape_of(data))
            return f"layer {target.name!r}: blob {index} is {list(blob.shape)}, in the file {there}"
    return None


def to_message(net):
    """The NetParameter that Caffe would write: each layer's definition with all its blobs, shared or not."""
    message = pb.NetParameter(name=net.name)
    for node in net.nodes:
        layer = message.layer.add()
        layer.CopyFrom(node.param)
        for blob in node.layer.blobs:
            kept = torch.float64 if blob.dtype == torch.float64 else torch.float32
            layer.blobs.append(from_array(blob.detach().to("cpu", kept).numpy()))
    return message


def save(net, path) -> None:
    """Writes a .caffemodel: whole or not at all."""
    write_binary(path, to_message(net))
