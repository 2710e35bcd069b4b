"""What Caffe's extension module holds, where scripts of its time look for it.

Caffe: python/caffe/_caffe.cpp.
"""

from crnn.layers.base import TYPES
from crnn.layers.python_layer import PythonLayer as Layer

from .blob import Blob
from .glog import init_log, log, set_logging_disabled
from .mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from .net import BlobVec, Net
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
    Solver,
    get_solver,
)


def layer_type_list() -> list[str]:
    """Every layer type that a prototxt may name."""
    return sorted(TYPES)


__all__ = [
    "NCCL",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Blob",
    "BlobVec",
    "Layer",
    "NesterovSolver",
    "Net",
    "RMSPropSolver",
    "SGDSolver",
    "Solver",
    "Timer",
    "get_solver",
    "has_nccl",
    "init_log",
    "layer_type_list",
    "log",
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
]
