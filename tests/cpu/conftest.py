"""The CPU's kernels for processors that are not here: AVX512's vectors and AMX's tiles under emulation.

The vectors are GCC's own, of any length, and become what this processor has; the tiles are emulated
(emulator/immintrin.h). So csrc/cpu is compiled but for what makes it use newer instructions.
"""

import ctypes
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from crnn.ops import backends
from crnn.testing import ROOT
from tests.compiled import COMPILER, library
from tests.emulated import Emulated
from tests.emulated import check_scan as check_emulated

EMULATOR = ROOT / "tests" / "cpu" / "emulator"
KERNELS = ROOT / "csrc" / "cpu"
SANITIZERS = os.environ.get("CRNN_SANITIZERS", "").split()  # tests/sanitized.py adds its own
#: At -O2 the compiler takes more time than the tests save.
FLAGS = ["-O1", "-g1", f"-I{EMULATOR}", "-iquote", str(KERNELS), *SANITIZERS]


def adapted(folder: Path) -> list[Path]:
    """The sources of scan and inner_product without their choice of instructions, and registered under a key
    of their own; of the tiles those that are tested (emulator/other_tiles.cpp)."""
    folder.mkdir(parents=True, exist_ok=True)
    tiles, scan = ("tile_avx512", "tile_amx"), ("scan_cpu", "scan_backward_cpu", "scan_weights_cpu")
    made = []
    for source in [KERNELS / f"{name}.cpp" for name in (*tiles, *scan, "inner_product_cpu")]:
        text = source.read_text(encoding="utf-8").replace("(crnn, CPU, m)", "(crnn, HPU, m)")
        text = text.replace("#pragma GCC target", "// #pragma GCC target")
        if source.stem == "tile_avx512":
            text = re.sub(r"template const Tiles<torch::headeronly::\w+>.*\n", "", text)
        made.append(folder / source.name)
        if not made[-1].exists() or made[-1].read_text(encoding="utf-8") != text:
            made[-1].write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="session")
def built() -> Path:
    """The library, loaded."""
    if "cpu" not in backends() or not shutil.which(COMPILER):
        pytest.skip("needs the compiled extension and a C++ compiler")
    folder = ROOT / "build" / ("sanitized" if SANITIZERS else "emulated") / "processor"
    path = library(folder, [*adapted(folder / "sources"), *sorted(EMULATOR.glob("*.cpp"))], FLAGS)
    torch.ops.load_library(path)
    return path


@pytest.fixture(scope="session")
def emulated(built) -> Emulated:
    return Emulated("HPU")  # as adapted() registers them


@pytest.fixture
def configured_threads(built):
    """How many threads have tiles configured now."""
    return ctypes.CDLL(str(built)).amx_configured_threads


@pytest.fixture(scope="session")
def check_scan(emulated):
    """check_scan(case, dtype, variant, tolerance): tests/emulated.py, and the gradient of W_hh."""

    def check(case, dtype, variant, tolerance):
        check_emulated(emulated, case, dtype, variant, tolerance)
        check_emulated(emulated, case, dtype, variant, tolerance, backward="scan_whole_backward")

    return check
