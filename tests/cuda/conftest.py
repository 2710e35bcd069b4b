"""The CUDA kernels compiled for the processor (tests/cuda/emulator), built once and kept by their content."""

import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch

from crnn.ops import backends
from crnn.testing import ROOT
from tests.compiled import COMPILER, library
from tests.emulated import Emulated
from tests.emulated import check_scan as check_emulated

EMULATOR = ROOT / "tests" / "cuda" / "emulator"
KERNELS = ROOT / "csrc" / "cuda"
#: tests/sanitized.py adds its own.
SANITIZERS = os.environ.get("CRNN_SANITIZERS", "").split()
#: At -O2 the compiler takes more time than the tests save.
FLAGS = ["-O1", "-g1", f"-I{EMULATOR}", f"-I{KERNELS}", *SANITIZERS]


def sources() -> list[Path]:
    """What is compiled: the emulator, and of csrc/cuda all that is not CUDA's own runtime."""
    own = [*KERNELS.glob("*.cu"), *KERNELS.glob("*.cpp")]
    kernels = [f for f in own if f.name not in ("runtime.cu", "ops_cuda.cpp", "cublaslt_library.cpp")]
    return sorted([*EMULATOR.glob("*.cpp"), *kernels])


@pytest.fixture(scope="session")
def emulated() -> Emulated:
    if "cpu" not in backends() or not shutil.which(COMPILER):
        pytest.skip("needs the compiled extension and a C++ compiler")
    folder = ROOT / "build" / ("sanitized" if SANITIZERS else "emulated")
    torch.ops.load_library(library(folder, sources(), FLAGS))
    return Emulated("XPU")  # where emulator/ops_emulated.cpp registers them


@pytest.fixture(scope="session")
def check_scan(emulated):
    """check_scan(case, dtype, variant, tolerance, **changes): tests/emulated.py."""
    return partial(check_emulated, emulated)
