"""Weights as safetensors: a tensor LAYER/I a blob, LAYER/I/diff its diff; the net they came from as metadata.

The metadata entry `caffe_net` is the NetParameter as a prototxt, its blobs with their shapes and no values:
with it a .caffemodel comes back exactly, old forms (V1, legacy extents) included.
"""

import os
from collections.abc import Iterator

import numpy as np
from google.protobuf.message import Message

from crnn.proto import messages as pb
from crnn.proto.blobs import put_values, replacing, shape_of, to_array
from crnn.proto.text import dump, parse

_NET = "caffe_net"
_VALUES = ("data", "diff", "double_data", "double_diff")


def write_tensors(path: str | os.PathLike, net: pb.NetParameter) -> None:
    """Writes net's blobs, whole or not at all. Takes the values out of `net`, which spares memory."""
    import safetensors.numpy

    tensors: dict[str, np.ndarray] = {}
    for layer, blobs in layers_of(net):
        for i, blob in enumerate(blobs):
            name = f"{layer}/{i}"
            if name in tensors:
                raise ValueError(f"{path}: two layers are called {layer!r}; rename one")
            tensors[name] = to_array(blob)
            if blob.diff or blob.double_diff:
                tensors[f"{name}/diff"] = to_array(blob, "diff")
            for field in _VALUES:
                blob.ClearField(field)
    with replacing(path) as part:
        try:
            safetensors.numpy.save_file(tensors, part, {"format": "np", _NET: dump(net)})
        except safetensors.SafetensorError as error:  # a full disk
            raise OSError(str(error)) from None


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, dict[int, np.ndarray]], pb.NetParameter | None]:
    """Each layer's blobs by their number, and the net without values, None where the file has none.

    Raises OSError, or ValueError for a file that is damaged or has other tensors.
    """
    import safetensors

    path, layers = os.fspath(path), {}
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safetensors.safe_open(path, "np") as file:
            text = (file.metadata() or {}).get(_NET)
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}); copy it again") from None
    for name, value in values.items():
        layer, _, index = name.removesuffix("/diff").rpartition("/")
        if not layer or not index.isdecimal():
            raise ValueError(f"{path}: tensor {name!r} is not called LAYER/I, as `crnn convert` does")
        if value.dtype not in (np.float32, np.float64):
            value = value.astype(np.float32)
        if not name.endswith("/diff"):
            layers.setdefault(layer, {})[int(index)] = value
    net = None if text is None else parse(text, pb.NetParameter, f"{path}:{_NET}").message
    if net is not None:
        _fill(net, values, path)
    return layers, net


def _fill(net: pb.NetParameter, values: dict[str, np.ndarray], path: str) -> None:
    """Puts the values back into the blobs of net."""
    for layer, blobs in layers_of(net):
        for i, blob in enumerate(blobs):
            name = f"{layer}/{i}"
            if name not in values:
                raise ValueError(f"{path}: there is no tensor {name}, which its {_NET} names")
            if values[name].shape != shape_of(blob):
                raise ValueError(
                    f"{path}: {name} is {list(values[name].shape)}, in its {_NET} {list(shape_of(blob))}"
                )
            put_values(blob, "data", values[name])
            if f"{name}/diff" in values:
                put_values(blob, "diff", values[f"{name}/diff"])


def layers_of(net: Message) -> Iterator[tuple[str, list[Message]]]:
    """(name, blobs) of the layers of any age."""
    for layer in (*net.layers, *net.layer):
        old = layer.layer if "layer" in layer.DESCRIPTOR.fields_by_name and layer.HasField("layer") else layer
        yield old.name, old.blobs
