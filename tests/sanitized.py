"""The ops' tests with all kernels, the CPU's and the emulated CUDA's, under AddressSanitizer and UBSan.

    python tests/sanitized.py [pytest's arguments; default: tests/ops tests/cuda]        (make sanitize)

The sanitized crnn._C lies in build/sanitized and takes the place of the installed one in these tests alone.
Needs g++. The first fault ends the run with its stack.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "sanitized"
#: Not `vptr`: torch's classes have hidden type information.
FLAGS = "-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer"


def library(name: str) -> str:
    compiler = os.environ.get("CXX", "c++")
    path = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return path.stdout.strip()


def main() -> int:
    build = {**os.environ, "CRNN_BUILD": "cpu", "CFLAGS": FLAGS, "CXXFLAGS": FLAGS, "LDFLAGS": FLAGS}
    build["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), build["PATH"]])  # ninja
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", FOLDER, "--build-temp", FOLDER]
    subprocess.run(command, cwd=ROOT, env=build, check=True)
    run = {
        **os.environ,
        "CRNN_EMULATOR_FLAGS": FLAGS,  # tests/cuda/conftest.py
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",  # before Python's own malloc
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's and torch's
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    tests = sys.argv[1:] or ["tests/ops", "tests/cuda"]
    pytest = [sys.executable, "-m", "pytest", "-p", "tests.sanitized", "-p", "no:cacheprovider", *tests]
    return subprocess.run(pytest, cwd=ROOT, env=run, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

# Read as pytest's plugin: the sanitized crnn._C is there before anybody asks for the other one.
spec = importlib.util.spec_from_file_location("crnn._C", FOLDER / "crnn" / "_C.abi3.so")
import torch  # noqa: E402, F401  (crnn._C needs its libraries)

sys.modules["crnn._C"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["crnn._C"])
