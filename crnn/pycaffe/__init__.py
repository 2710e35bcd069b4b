"""pycaffe's interface: nets, solvers, NetSpec and io by their names in BVLC Caffe 1.0.

    import crnn.pycaffe as caffe
    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="a.caffemodel")
    net.blobs["data"].data[...] = image
    scores = net.forward()["prob"]

`python -m crnn.pycaffe SCRIPT` runs a script that says `import caffe`. Nets are made on the CPU until
set_mode_gpu is called; the solver_mode of a solver's text counts for nothing, as in pycaffe.
"""

from crnn.layers.base import TYPES as _TYPES
from crnn.layers.python_layer import PythonLayer as Layer
from crnn.proto import pb as _pb

from . import coord_map, draw, io, proto
from .classifier import Classifier
from .detector import Detector
from .glog import init_log, log, set_logging_disabled
from .mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from .net import Net
from .net_spec import NetSpec, layers, params, to_proto
from .parallel import (
    NCCL,
    Timer,
    has_nccl,
    set_multiprocess,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from .solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

__version__ = "1.0.0"  # the Caffe whose interface this is
TRAIN, TEST = _pb.TRAIN, _pb.TEST


def layer_type_list() -> list[str]:
    """Every layer type that a prototxt may name."""
    return sorted(_TYPES)


__all__ = [
    "NCCL",
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "Timer",
    "coord_map",
    "draw",
    "get_solver",
    "has_nccl",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "set_device",
    "set_logging_disabled",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
