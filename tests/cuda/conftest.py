"""The CUDA kernels compiled for the processor (tests/cuda/emulator), built once and kept by their content."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from crnn.ops import backends, reference
from crnn.testing import ROOT, assert_near
from tests.compiled import COMPILER, library

EMULATOR = ROOT / "tests" / "cuda" / "emulator"
KERNELS = ROOT / "csrc" / "cuda"
#: tests/sanitized.py adds its own.
SANITIZERS = os.environ.get("CRNN_SANITIZERS", "").split()
FLAGS = ["-O2", "-g1", f"-I{EMULATOR}", f"-I{KERNELS}", *SANITIZERS]


def sources() -> list[Path]:
    """What is compiled: the emulator, and of csrc/cuda all that is not CUDA's own runtime."""
    own = [*KERNELS.glob("*.cu"), *KERNELS.glob("*.cpp")]
    kernels = [f for f in own if f.name not in ("runtime.cu", "ops_cuda.cpp", "cublaslt_library.cpp")]
    return sorted([*EMULATOR.glob("*.cpp"), *kernels])


class Emulated:
    """The ops with the kernels of csrc/cuda, run on the processor. Call one as torch.ops.crnn.NAME."""

    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.XPU)  # where emulator/ops_emulated.cpp registers them

    def __getattr__(self, op):
        return lambda *args: getattr(torch.ops.crnn, op).default.redispatch(self.keys, *args)


@pytest.fixture(scope="session")
def emulated() -> Emulated:
    if "cpu" not in backends() or not shutil.which(COMPILER):
        pytest.skip("needs the compiled extension and a C++ compiler")
    folder = ROOT / "build" / ("sanitized" if SANITIZERS else "emulated")
    torch.ops.load_library(library(folder, sources(), FLAGS))
    return Emulated()


@pytest.fixture(scope="session")
def check_scan(emulated):
    """check_scan(case, dtype, variant, tolerance, **changes): a kernel's results against float64.

    States against the reference; gradients against the CPU kernel in float64 *at the states that the kernel
    computed*, so that a relu that rounding pushed over 0 does not count as an error of the gradient.
    """

    def check(case, dtype, variant, tolerance, **changes):
        inputs = {**case.inputs(dtype), **changes}
        rest = [inputs[k] for k in ("w_hh", "cell_params", "initial", "cont")]
        flat = [int(v) for d in case.plan for v in d]
        exact = {k: None if v is None else v.double() for k, v in inputs.items()}
        state, saved = emulated.scan(inputs["z"], *rest, flat, case.cell, variant)
        assert_near(state, reference.scan(plan=case.plan, cell=case.cell, **exact), tolerance, "state")

        rng = torch.Generator().manual_seed(1)
        dstate = torch.randn(state.shape, generator=rng, dtype=torch.float64).to(dtype)
        got = emulated.scan_backward(dstate, *rest, state, saved, flat, case.cell, variant)
        kept = state.new_empty(*state.shape[1:4], 0, case.D) if reference.CELLS[case.cell].masked else saved
        tensors = [None if t is None else t.double() for t in (dstate, *rest, state, kept)]
        want = torch.ops.crnn.scan_backward(*tensors, flat, case.cell)
        for name, one, other in zip(("dz", "dcell_params", "dinitial"), got, want, strict=True):
            assert_near(one, other, tolerance, name)
        return state, saved.view(torch.uint8), *got  # bytes: a mask's bits may look like NaN

    return check
