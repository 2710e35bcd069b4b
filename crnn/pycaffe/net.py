"""pycaffe's Net. Caffe: python/caffe/pycaffe.py and Net_Init in python/caffe/_caffe.cpp."""

import os
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from itertools import zip_longest

import numpy as np

from crnn.net import weights as weight_files
from crnn.proto import pb

from . import mode
from .blob import Blob, ParamBlob
from .live_net import LiveNet
from .reshape import reshape_tops

PHASES = {pb.TRAIN: "TRAIN", pb.TEST: "TEST"}


class BlobVec(list):
    """The blobs of a layer."""


class NetLayer:
    """A layer of a net as a script sees it.    type, name;    blobs: what it learns."""

    def __init__(self, layer, blobs: list[ParamBlob]):
        self.type, self.name, self.blobs = layer.type, layer.name, BlobVec(blobs)


class Net:
    """A net whose blobs live: every array that it gives away shows, and takes, the values that it works on.

        net = caffe.Net("deploy.prototxt", caffe.TEST, weights="a.caffemodel")
        net.blobs["data"].data[...] = image
        scores = net.forward()["prob"]

    It stays on the device that set_mode_cpu or set_mode_gpu had chosen when it was made.
    """

    def __init__(self, network_file, phase=None, level=0, stages=None, weights=None):
        """`Net(file, phase, ...)`, or as of old `Net(file, weights, phase)`.

        Raises OSError for a file that cannot be read, PrototxtError or ValueError for a net or weights that
        do not fit.
        """
        if isinstance(phase, str | os.PathLike):
            phase, weights, level = level, phase, 0
        if phase not in PHASES:
            raise ValueError(f"Net needs a phase, caffe.TRAIN or caffe.TEST, after the file; got {phase!r}")
        self._live = LiveNet(network_file, PHASES[phase], None, tuple(stages or ()), level).to(mode.device())
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def _of(cls, live: LiveNet) -> "Net":
        """The Net around a solver's."""
        net = cls.__new__(cls)
        net._live = live
        return net

    @cached_property
    def blobs(self) -> "OrderedDict[str, Blob]":
        """Name -> Blob, from input to output; Split layers' too."""
        return OrderedDict(self._live.live)

    @cached_property
    def blob_loss_weights(self) -> "OrderedDict[str, float]":
        return OrderedDict((name, self._live.loss_weights.get(name, 0.0)) for name in self.blobs)

    @cached_property
    def layers(self) -> list:
        """Every layer; of type Python the user's own object."""
        pairs = zip(self._live.layers, self._live.own_blobs, strict=True)
        return [layer.user if layer.type == "Python" else NetLayer(layer, blobs) for layer, blobs in pairs]

    @cached_property
    def _layer_names(self) -> list[str]:
        return [layer.name for layer in self._live.layers]

    # Underscored by pycaffe, and used by scripts all the same.
    @property
    def _blobs(self) -> list:
        return list(self.blobs.values())

    @property
    def _blob_names(self) -> list[str]:
        return list(self.blobs)

    @property
    def _blob_loss_weights(self) -> list[float]:
        return list(self.blob_loss_weights.values())

    @property
    def _inputs(self) -> list[int]:
        return self._ids(self.inputs)

    @property
    def _outputs(self) -> list[int]:
        return self._ids(self.outputs)

    def _bottom_ids(self, layer: int) -> list[int]:
        return self._ids(self._live.nodes[layer].bottoms)

    def _top_ids(self, layer: int) -> list[int]:
        return self._ids(self._live.nodes[layer].tops)

    def _ids(self, names: list[str]) -> list[int]:
        """Where blobs stand in `blobs`."""
        return [self._blob_names.index(name) for name in names]

    @cached_property
    def layer_dict(self) -> OrderedDict:
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @cached_property
    def params(self) -> "OrderedDict[str, list]":
        """Layer name -> its blobs, of the layers that have any."""
        pairs = zip(self._layer_names, self._live.own_blobs, strict=True)
        return OrderedDict((name, BlobVec(blobs)) for name, blobs in pairs if blobs)

    @property
    def inputs(self) -> list[str]:
        """Tops of the Input layers."""
        return list(self._live.inputs)

    @property
    def outputs(self) -> list[str]:
        """Blobs that no layer reads, alphabetical."""
        return list(self._live.outputs)

    @cached_property
    def top_names(self) -> "OrderedDict[str, list[str]]":
        return OrderedDict((node.layer.name, list(node.tops)) for node in self._live.nodes)

    @cached_property
    def bottom_names(self) -> "OrderedDict[str, list[str]]":
        return OrderedDict((node.layer.name, list(node.bottoms)) for node in self._live.nodes)

    def _layer(self, name: str | None, default: int) -> int:
        if name is None:
            return default
        if name not in self._layer_names:
            raise ValueError(f"the net has no layer {name!r}; its layers are {', '.join(self._layer_names)}")
        return self._layer_names.index(name)

    def _forward(self, first: int, last: int) -> float:
        return self._live.forward_layers(first, last)

    def _backward(self, first: int, last: int) -> None:
        self._live.backward_layers(first, last)

    def forward(self, blobs=None, start=None, end=None, **kwargs) -> dict[str, np.ndarray]:
        """Runs the layers `start` to `end`, both included; by default all.

        blobs: names of further blobs to return.    kwargs: values for the inputs, for all of them or none.
        Returns the live data of the outputs, or of `end`'s tops, by name.
        """
        first, last = self._layer(start, 0), self._layer(end, len(self._layer_names) - 1)
        self._fill(kwargs, self.inputs, "input", "data")
        self._forward(first, last)
        names = self.top_names[end] if end is not None else self.outputs
        return {name: self.blobs[name].data for name in [*names, *(blobs or ())]}

    def backward(self, diffs=None, start=None, end=None, **kwargs) -> dict[str, np.ndarray]:
        """Runs backward from layer `start` down to `end`, both included; by default all.

        diffs: names of further blobs to return.    kwargs: diffs for the outputs, for all of them or none; a
        loss has its weight as diff.
        Returns the live diffs of the inputs, or of `end`'s bottoms, by name.
        """
        first, last = self._layer(start, len(self._layer_names) - 1), self._layer(end, 0)
        self._fill(kwargs, self.outputs, "output", "diff")
        self._backward(first, last)
        names = self.bottom_names[end] if end is not None else self.inputs
        return {name: self.blobs[name].diff for name in [*names, *(diffs or ())]}

    def _fill(self, arrays: dict, names: list[str], what: str, side: str) -> None:
        if not arrays:
            return
        if set(arrays) != set(names):
            raise ValueError(f"the net's {what}s are {names}, got {sorted(arrays)}: give all of them")
        for name, array in arrays.items():
            array, blob = np.asarray(array), self.blobs[name]
            if array.shape[:1] != blob.shape[:1]:
                raise ValueError(
                    f"{what} {name!r} is {list(blob.shape)} in the net, got {list(array.shape)}; "
                    "reshape the blob first"
                )
            getattr(blob, side)[...] = array

    def forward_all(self, blobs=None, **kwargs) -> dict[str, np.ndarray]:
        """Runs arrays of any length through the net, a batch at a time; the outputs of all rows."""
        collected = {name: [] for name in [*self.outputs, *(blobs or ())]}
        for batch in self._batches(kwargs):
            for name, rows in self.forward(blobs=blobs, **batch).items():
                collected[name].extend(rows.copy())
        return {name: np.asarray(rows[: _length(kwargs)]) for name, rows in collected.items()}

    def forward_backward_all(self, blobs=None, diffs=None, **kwargs) -> tuple[dict, dict]:
        """Forward and backward over arrays of any length: values and diffs of all rows.

        kwargs: arrays for inputs, and for outputs' diffs.
        """
        values = {name: [] for name in [*self.outputs, *(blobs or ())]}
        slopes = {name: [] for name in [*self.inputs, *(diffs or ())]}
        forward = self._batches({name: kwargs[name] for name in self.inputs if name in kwargs})
        backward = self._batches({name: kwargs[name] for name in self.outputs if name in kwargs})
        for inputs, outputs in zip_longest(forward, backward, fillvalue={}):
            for name, rows in self.forward(blobs=blobs, **inputs).items():
                values[name].extend(rows.copy())
            for name, rows in self.backward(diffs=diffs, **outputs).items():
                slopes[name].extend(rows.copy())
        length = _length(kwargs)
        return tuple(
            {name: np.asarray(rows[:length]) for name, rows in every.items()} for every in (values, slopes)
        )

    def _batches(self, arrays: dict) -> Iterator[dict[str, np.ndarray]]:
        """Slices as long as the net's batch; the last is filled up with zeros."""
        if not arrays:
            return
        size = next(iter(self.blobs.values())).shape[0]
        for start in range(0, _length(arrays), size):
            batch = {name: np.asarray(rows[start : start + size]) for name, rows in arrays.items()}
            yield {
                name: np.pad(rows, [(0, size - len(rows))] + [(0, 0)] * (rows.ndim - 1))
                for name, rows in batch.items()
            }

    def reshape(self) -> None:
        """Gives every blob the shape that follows from the inputs' shapes; `forward` does so by itself."""
        reshape_tops(self._live)

    def set_input_arrays(self, data, labels) -> None:
        """Arrays for the MemoryData layer, which must be the first: data [n, C, H, W], labels [n]."""
        first = self._live.layers[0]
        if first.type != "MemoryData":
            raise ValueError(
                f"set_input_arrays is for nets that begin with a MemoryData layer, not {first.type}"
            )
        first.set_input_arrays(np.asarray(data, np.float32), np.asarray(labels, np.float32))

    def copy_from(self, weights) -> None:
        """Weights of a .caffemodel or .caffemodel.h5 for the layers of the same names."""
        self._live.push()
        weight_files.load(self._live, os.fspath(weights))

    def share_with(self, other: "Net") -> None:
        """Uses the memory of `other`'s params, of the layers of the same names; diffs stay apart."""
        self._live.share_weights(other._live)

    def save(self, path) -> None:
        """Writes a .caffemodel, whole or not at all."""
        self._live.push()
        weight_files.save(self._live, path)

    def save_hdf5(self, path) -> None:
        self._live.push()
        weight_files.save_hdf5(self._live, path)

    def load_hdf5(self, path) -> None:
        self.copy_from(path)

    def clear_param_diffs(self) -> None:
        self._live.clear_param_diffs()

    def before_forward(self, callback) -> None:
        """`callback(i)` is called before layer i runs; so with the other three."""
        self._live.callbacks["before_forward"].append(callback)

    def after_forward(self, callback) -> None:
        self._live.callbacks["after_forward"].append(callback)

    def before_backward(self, callback) -> None:
        self._live.callbacks["before_backward"].append(callback)

    def after_backward(self, callback) -> None:
        self._live.callbacks["after_backward"].append(callback)


def _length(arrays: dict) -> int:
    return len(next(iter(arrays.values())))
