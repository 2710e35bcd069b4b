"""The ops' tests with all kernels, the CPU's and all that are emulated, under AddressSanitizer and UBSan.

    python tests/sanitized.py [pytest's arguments; default: tests/ops tests/cpu tests/cuda]    (make sanitize)

The sanitized crnn._C lies in build/sanitized and takes the place of the installed one in these tests alone.
Needs g++. The first fault ends the run with its stack.
"""

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: Not `vptr`: torch's classes have hidden type information. The least optimisation: it compiles in minutes.
FLAGS = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all"
MODULE = ["-fno-math-errno", "-fno-trapping-math", "-DPy_LIMITED_API=0x030A0000"]  # as setup.py has it


def compiled() -> Path:
    """crnn._C with sanitizers."""
    sys.path.insert(0, str(ROOT))
    from tests.compiled import library

    sources = sorted([*ROOT.glob("csrc/*.cpp"), *ROOT.glob("csrc/cpu/*.cpp")])
    flags = [*FLAGS.split(), *MODULE, f"-I{sysconfig.get_path('include')}"]
    return library(ROOT / "build" / "sanitized" / "cpu", sources, flags)


def runtime(name: str) -> str:
    """Where the compiler has a library."""
    command = [os.environ.get("CXX", "c++"), f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    environment = {
        **os.environ,
        "CRNN_SANITIZERS": FLAGS,  # the conftest.py of tests/cpu and tests/cuda
        "CRNN_SANITIZED": str(compiled()),
        "LD_PRELOAD": f"{runtime('libasan.so')} {runtime('libstdc++.so')}",  # before Python's own malloc
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's and torch's
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    tests = sys.argv[1:] or ["tests/ops", "tests/cpu", "tests/cuda"]
    options = ["--timeout=0", "--capture=sys"]  # they compile for minutes; a fault's stack goes to stderr
    options += ["-p", "tests.sanitized", "-p", "no:cacheprovider"]
    options += ["--ignore=tests/ops/test_stable_abi.py"]  # is of the binary that ships
    pytest = [sys.executable, "-m", "pytest", *options, *tests]
    return subprocess.run(pytest, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

# Read as pytest's plugin: the sanitized crnn._C is there before anybody asks for the other one.
spec = importlib.util.spec_from_file_location("crnn._C", os.environ["CRNN_SANITIZED"])
import torch  # noqa: E402, F401  (crnn._C needs its libraries)

sys.modules["crnn._C"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["crnn._C"])
