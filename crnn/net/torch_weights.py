"""A torch model's state dict as the blobs of a net whose layers have the names of the model's modules."""

import pickle
from collections.abc import Mapping
from os import fspath

import numpy as np
import torch
from torch import Tensor

from crnn.proto.npz import read_npz

#: layer type -> what its blobs are called in a state dict, in Caffe's order.
ENTRIES = {
    "Convolution": ("weight", "bias"),
    "Deconvolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "BatchNorm": ("running_mean", "running_var", None),  # the last is Caffe's divisor of both, 1
    "Scale": ("weight", "bias"),
    "ScaleRNN": ("weight_hh", "weight_z", "weight_hz"),
}

_COUNTER = "num_batches_tracked"  # of a torch BatchNorm, which only counts


def read(path) -> dict[str, Tensor]:
    """Name -> tensor of a .safetensors, .npz or torch file (.pt, .pth). No code in the file is run.

    Raises OSError where it cannot be read, ValueError where it holds anything but named tensors.
    """
    name = fspath(path)
    if name.endswith(".safetensors"):
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(name)
        except SafetensorError as error:
            raise ValueError(f"{name} is no whole .safetensors file: {error}") from None
    if name.endswith(".npz"):
        arrays = read_npz(name)
        try:
            return {key: torch.from_numpy(value) for key, value in arrays.items()}
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} holds what is no tensor: {error}") from None
    try:
        state = torch.load(name, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"{name} is no state dict that can be read without running code: {said}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{name} holds no state dict (name -> tensor): save model.state_dict()")
    return dict(state)


def is_torch(path) -> bool:
    """Whether a file is a torch model's by its name; .safetensors may be others'."""
    return fspath(path).endswith((".pth", ".pt", ".npz"))


def entries_of(layer) -> tuple[str | None, ...]:
    """Of the layer's blobs, in their order; none of a layer that torch has no module for."""
    names = ENTRIES.get(layer.type, ())
    return names[1:] if layer.type == "Scale" and layer.given else names  # its scale is a bottom


def as_blob(layer, index: int, value: Tensor) -> Tensor:
    """An entry as the layer has it: a transposed InnerProduct's weights are."""
    turned = layer.type == "InnerProduct" and layer.transpose and index == 0
    return value.T if turned and value.dim() == 2 else value


def layers_of(net, state: Mapping[str, Tensor]) -> tuple[dict[str, dict[int, np.ndarray]], list[str]]:
    """Layer -> {blob's number: values}, of the net's layers that have entries; the modules of no layer, and
    the entries that their layer has no blob for."""
    found: dict[str, dict[int, np.ndarray]] = {}
    used = set()
    modules = {layer.name.removesuffix(".scale") for layer in net.layers if entries_of(layer)}
    for layer in net.layers:
        module = layer.name.removesuffix(".scale")
        for i, entry in enumerate(entries_of(layer)[: len(layer.blobs)]):
            if entry is None and layer.name in found:
                found[layer.name][i] = np.ones(1, np.float32)
            elif (value := state.get(f"{module}.{entry}")) is not None:
                found.setdefault(layer.name, {})[i] = as_blob(layer, i, value).float().numpy()
                used.add(f"{module}.{entry}")
    left = [name for name in state if name not in used and not name.endswith(_COUNTER)]
    parts = [(name.rpartition(".")[0], name) for name in left]
    return found, list(dict.fromkeys(name if module in modules else module for module, name in parts))


@torch.no_grad()
def copy(net, state: Mapping[str, Tensor]) -> list[str]:
    """Fills the net's layers from entries MODULE.weight, ...; returns the entries that no layer took.

    Layer "a.b" takes those of module a.b; a Scale named "a.b.scale" those of the normalisation a.b.

    Raises ValueError, naming all of them, for blobs that have no entry or one of another shape.
    """
    problems, pairs, used = [], [], set()
    for layer in net.layers:
        module = layer.name.removesuffix(".scale")
        for i, (blob, entry) in enumerate(zip(layer.blobs, entries_of(layer), strict=False)):
            if entry is None:
                pairs.append((blob, torch.ones_like(blob)))
                continue
            name = f"{module}.{entry}"
            value = state.get(name)
            value = value if value is None else as_blob(layer, i, value)
            if value is None:
                problems.append(f"no {name}")
            elif value.shape != blob.shape:
                problems.append(f"{name} is {list(value.shape)}, layer {layer.name!r} has {list(blob.shape)}")
            else:
                used.add(name)
                pairs.append((blob, value))
    if problems:
        raise ValueError(f"the state dict does not fit net {net.name!r}: {'; '.join(problems)}")
    for blob, value in pairs:
        blob.copy_(value)
    return [name for name in state if name not in used and not name.endswith(_COUNTER)]
