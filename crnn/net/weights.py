"""Weights of a net from and to .caffemodel files, binary and HDF5.

Caffe: Net::CopyTrainedLayersFrom, Net::ToProto and Net::ToHDF5 in src/caffe/net.cpp.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from os import fspath
from pathlib import Path

import numpy as np
import torch

from crnn.proto import hdf5, pb
from crnn.proto.blobs import from_array, shape_equals, shape_of, to_array, write_binary, write_bytes
from crnn.proto.stored import StoredBlob, read_layers
from crnn.proto.tensors import layers_of, read_tensors

from . import torch_weights


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
    """Copies blobs into the layers of the same names; of several files ("a,b", unless one has that name) the
    later win.

    A file is a .caffemodel, binary or HDF5, the .safetensors that `crnn convert` made of one, or the state
    dict of a torch model whose modules have the layers' names (.pth, .pt, .npz). Raises ValueError naming
    every layer whose blobs do not fit; nothing of that file is copied.
    """
    report, names = LoadReport(), list(dict.fromkeys(param.owner.name for param in net.params))
    for path in [fspath(paths)] if os.path.exists(paths) else fspath(paths).split(","):
        check_sum(path)
        if path.endswith(".safetensors"):
            arrays, source = read_tensors(path)
            if source is None:
                _fill(net, arrays.items, path, report, owners_only=True)
            else:  # its blobs may have legacy extents
                _fill(net, lambda source=source: _numbered(layers_of(source)), path, report)
        elif torch_weights.is_torch(path):
            own, report.ignored[:] = torch_weights.layers_of(net, torch_weights.read(path))
            _fill(net, own.items, path, report, owners_only=True)
        elif hdf5.is_hdf5(path):
            _fill(net, hdf5.read_weights(path).items, path, report, owners_only=True)
        else:
            _fill(net, lambda path=path: _numbered(read_layers(path)), path, report)
    report.filled = [name for name in names if name not in report.copied]
    return report


def copy(net, source, path: str, report: LoadReport) -> None:
    """Copies one NetParameter's blobs into the net and notes it in the report."""
    _fill(net, lambda: _numbered((layer.name, layer.blobs) for layer in source.layer), path, report)


def check_sum(path: str) -> None:
    """Raises ValueError where the .resume.json beside path was written with another file of this name."""
    resume_path, resume = resume_path_of(path), read_resume(path)
    wanted = resume and resume["sha256"].get(os.path.basename(path))
    if wanted and wanted != sha256(path):
        raise ValueError(
            f"{path} is damaged or of another run: {resume_path} was written with a different one; "
            f"take another snapshot, or remove {resume_path} to use it all the same"
        )


def resume_path_of(path: str) -> Path:
    """The .resume.json beside a snapshot's file."""
    return Path(path.removesuffix(".h5")).with_suffix(".resume.json")


def read_resume(path: str) -> dict | None:
    """What the .resume.json beside path holds; None where there is none. Raises ValueError if damaged."""
    resume_path = resume_path_of(path)
    if not resume_path.exists():
        return None
    try:
        resume = json.loads(resume_path.read_bytes())
        if isinstance(resume, dict) and isinstance(resume.get("sha256"), dict):
            wanted = resume.pop("seal", None)  # older ones have none
            if wanted in (None, _seal(resume)):
                return resume
    except (ValueError, RecursionError):  # no JSON, or brackets in brackets
        pass
    raise ValueError(f"{resume_path} is damaged; remove it to use {path} without a check")


def write_resume(path: str, resume: Mapping) -> None:
    """Writes the .resume.json beside path, with a checksum of its own."""
    data = json.dumps({**resume, "seal": _seal(resume)}, indent=1)
    write_bytes(resume_path_of(path), data.encode())


def _seal(resume: Mapping) -> str:
    return hashlib.sha256(json.dumps(resume).encode()).hexdigest()


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _numbered(layers: Iterable) -> Iterable:
    return ((name, dict(enumerate(blobs))) for name, blobs in layers)


def _fill(net, stored: Callable[[], Iterable], path: str, report: LoadReport, owners_only=False) -> None:
    """Copies what a file holds: stored() gives (layer name, {blob's number: array, BlobProto or StoredBlob}).

    It is asked twice, first for the shapes. owners_only: the file need not have what a layer only shares.
    """
    targets = {layer.name: layer for layer in net.layers}
    owned = {(id(param.owner), param.index) for param in net.params}
    for name, blobs in stored():
        target = targets.get(name)
        if target is None:
            if blobs and name not in report.ignored:
                report.ignored.append(name)
            continue
        wanted = {i for i in range(len(target.blobs)) if not owners_only or (id(target), i) in owned}
        problem = mismatch(target, blobs, wanted)
        if problem:
            report.misshapen.append(problem)
    if report.misshapen:
        raise ValueError(
            f"{path} does not fit net {net.name!r}: {'; '.join(report.misshapen)}. "
            "To learn a layer from scratch, rename it in the prototxt"
        )
    for name, blobs in stored():
        target = targets.get(name)
        if target is None or not len(target.blobs):
            continue
        for index, blob in blobs.items():
            try:
                _copy(target.blobs[index], blob)
            except ValueError as error:
                raise ValueError(f"{path}: layer {name!r}: {error}") from error
        if name not in report.copied:
            report.copied.append(name)


@torch.no_grad()
def _copy(blob: torch.Tensor, stored) -> None:
    if isinstance(stored, StoredBlob):
        values = stored.read()
    else:
        values = stored if isinstance(stored, np.ndarray) else to_array(stored)
    if values.size and not (math.isfinite(values.min()) and math.isfinite(values.max())):
        raise ValueError("its blobs are not finite; the file is damaged, or its training diverged")
    blob.copy_(torch.from_numpy(values.reshape(blob.shape)))


def mismatch(target, stored: Mapping, wanted: Set[int]) -> str | None:
    """In one clause, what keeps stored blobs (by their number) out of the target, if anything does."""
    if not wanted <= set(stored) <= set(range(len(target.blobs))):
        return f"layer {target.name!r}: {len(target.blobs)} blobs, in the file {len(stored)}"
    for index, data in stored.items():
        shape, array = tuple(target.blobs[index].shape), isinstance(data, np.ndarray)
        data = data.head if isinstance(data, StoredBlob) else data
        if not (data.shape == shape if array else shape_equals(data, shape)):
            there = list(data.shape if array else shape_of(data))
            return f"layer {target.name!r}: blob {index} is {list(shape)}, in the file {there}"
    return None


def to_message(net, diffs: bool = False):
    """The NetParameter that Caffe would write: each layer's definition with all its blobs, shared or not.

    diffs: also each blob's gradient, zeros where it has none.
    """
    message = pb.NetParameter(name=net.name)
    for node in net.nodes:
        layer = message.layer.add()
        layer.CopyFrom(node.param)
        for i, blob in enumerate(node.layer.blobs):
            layer.blobs.append(from_array(_values(blob), _diff(node.layer, i) if diffs else None))
    return message


def save(net, path, diffs: bool = False) -> None:
    """Writes a .caffemodel, or HDF5 where path ends in .h5: whole or not at all."""
    if fspath(path).endswith((".h5", ".hdf5")):
        save_hdf5(net, path, diffs)
    else:
        write_binary(path, to_message(net, diffs))


def save_hdf5(net, path, diffs: bool = False) -> None:
    """Writes HDF5 whatever the name; a blob that layers share stands under its owner; its diff under all."""
    owned = {(id(param.owner), param.index) for param in net.params}
    blobs = {
        layer.name: {i: _values(b) for i, b in enumerate(layer.blobs) if (id(layer), i) in owned}
        for layer in net.layers
    }
    every = {layer.name: {i: _diff(layer, i) for i in range(len(layer.blobs))} for layer in net.layers}
    hdf5.write_weights(path, blobs, every if diffs else None)


def _diff(layer, index: int) -> np.ndarray:
    grad = layer.blobs.parameter(index).grad
    blob = layer.blobs[index]
    return _values(torch.zeros_like(blob) if grad is None else grad.reshape(blob.shape))


def _values(blob: torch.Tensor) -> np.ndarray:
    kept = torch.float64 if blob.dtype == torch.float64 else torch.float32
    return blob.detach().to("cpu", kept).numpy()
