"""Spatial recurrent networks on images, faithful to Caffe.

    import crnn
    net = crnn.Net("prototxt_like/demo/crnn/train_val.prototxt", phase="TEST", weights="snap.caffemodel")
    rnn = crnn.nn.SpatialRNN(256, 256)        # a recurrent layer for any torch model

Names load on first use, so `import crnn` needs neither lmdb nor OpenCV nor the compiled extension.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {"Net": "crnn.net.net", "Solver": "crnn.solver.solver", "PrototxtError": "crnn.proto.text"}
_PARTS = ("ops", "nn", "net", "proto", "data", "layers", "solver", "report", "experiments", "pycaffe")

__all__ = ["__version__", *_HOMES, *_PARTS]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _PARTS:
        return import_module(f"crnn.{name}")
    raise AttributeError(f"module 'crnn' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
