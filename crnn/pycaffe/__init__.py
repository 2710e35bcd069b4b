"""pycaffe's interface: nets, solvers, NetSpec and io by their names in BVLC Caffe 1.0.

    import crnn.pycaffe as caffe
    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="a.caffemodel")
    net.blobs["data"].data[...] = image
    scores = net.forward()["prob"]

`python -m crnn.pycaffe SCRIPT` runs a script that says `import caffe`. Nets are made on the CPU until
set_mode_gpu is called; the solver_mode of a solver's text counts for nothing, as in pycaffe.
"""

from crnn.proto import pb as _pb

from . import coord_map, draw, io, proto
from ._caffe import (
    Layer,
    get_solver,
    has_nccl,
    init_log,
    layer_type_list,
    log,
    set_device,
    set_logging_disabled,
    set_mode_cpu,
    set_mode_gpu,
    set_multiprocess,
    set_random_seed,
    set_solver_count,
    set_solver_rank,
    solver_count,
    solver_rank,
)
from .classifier import Classifier
from .detector import Detector
from .net_spec import NetSpec, layers, params, to_proto
from .pycaffe import (
    NCCL,
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    Net,
    RMSPropSolver,
    SGDSolver,
    Timer,
)

__version__ = "1.0.0"  # the Caffe whose interface this is
TRAIN, TEST = _pb.TRAIN, _pb.TEST


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
