"""Weights as HDF5: a group "data", in it one a layer, in it a data set a blob: "0", "1", ...

Caffe: Net::ToHDF5 and CopyTrainedLayersFromHDF5 in src/caffe/net.cpp. A blob that several layers share stands
under its owner alone.
"""

import os

import numpy as np
import torch


def save(net, path) -> None:
    """Writes the net's blobs."""
    owners = {(id(param.owner), param.index) for param in net.params}
    with _open(path, "w") as file:
        data = file.create_group("data")
        for layer in net.layers:
            group = data.create_group(layer.name)
            for i, blob in enumerate(layer.blobs):
                if (id(layer), i) in owners:
                    group.create_dataset(str(i), data=blob.detach().cpu().numpy().astype(np.float32))


def load(net, path) -> None:
    """Copies blobs into the layers of the same names; nothing is copied if one does not fit.

    Raises OSError, ValueError.
    """
    path = os.fspath(path)
    owners = {(id(param.owner), param.index) for param in net.params}
    copies = []
    with _open(path, "r") as file:
        if "data" not in file:
            raise ValueError(f"{path}: this HDF5 file has no group 'data', so it holds no Caffe weights")
        for layer in net.layers:
            stored = file["data"].get(layer.name)
            if stored is None:
                continue
            if len(stored) > len(layer.blobs):
                raise ValueError(
                    f"{path}: layer {layer.name!r} has {len(layer.blobs)} blobs, in the file {len(stored)}"
                )
            for i, blob in enumerate(layer.blobs):
                if str(i) in stored:
                    copies.append(
                        (blob, _fitting(stored[str(i)], blob, f"{path}: layer {layer.name!r}: blob {i}"))
                    )
                elif (id(layer), i) in owners:
                    raise ValueError(f"{path}: layer {layer.name!r} has no blob {i} in the file")
    with torch.no_grad():
        for blob, values in copies:
            blob.copy_(torch.from_numpy(values))


def _fitting(dataset, blob, place: str) -> np.ndarray:
    if dataset.shape != tuple(blob.shape):
        raise ValueError(
            f"{place} is {list(blob.shape)}, in the file {list(dataset.shape)}. To learn the layer from "
            "scratch, rename it in the prototxt"
        )
    return np.asarray(dataset, np.float32)


def _open(path, how: str):
    try:
        import h5py
    except ImportError:
        raise ValueError("weights as HDF5 need h5py: pip install 'crnn[hdf5]'") from None
    return h5py.File(os.fspath(path), how)
