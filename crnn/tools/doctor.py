"""doctor: what is installed, which backends run and why the others do not."""

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys

import torch

import crnn
from crnn.ops import backend

#: What pyproject.toml requires: the module that is imported -> the distributions that bring it.
REQUIRED = {
    "torch": ["torch"],
    "numpy": ["numpy"],
    "google.protobuf": ["protobuf"],
    "lmdb": ["lmdb"],
    "cv2": [
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python-headless",
        "opencv-contrib-python",
    ],
    "safetensors": ["safetensors"],
    "tqdm": ["tqdm"],
}
#: Module -> distribution, what it is for, how to get it.
OPTIONAL = {
    "matplotlib": ("matplotlib", "the HTML report", 'pip install "crnn[report]"'),
    "h5py": ("h5py", "HDF5 layers and snapshots", 'pip install "crnn[hdf5]"'),
    "plyvel": ("plyvel", "LevelDB databases", 'pip install "crnn[leveldb]"'),
    "onnxscript": ("onnxscript", "crnn convert to ONNX", 'pip install "crnn[onnx]"'),
}

EPILOG = """exit code: 0 if crnn can work here; 1 if a package it requires is missing or CRNN_BACKEND
asks for a backend that is not usable"""


def version(distributions: list[str]) -> str:
    """Name and version of the first distribution that is installed; an empty text if none is."""
    for name in distributions:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def importable(module: str) -> bool:
    """Whether Python finds a module, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its parent package is missing
        return False


def missing() -> list[str]:
    """The required distributions that are not here."""
    return [names[0] for module, names in REQUIRED.items() if not importable(module)]


def package_lines() -> list[str]:
    """One line a package: its version, or how to get it."""
    rows = [version(names) or module for module, names in REQUIRED.items() if importable(module)]
    for module, (name, purpose, cure) in OPTIONAL.items():
        lack = f"{name} is not installed (optional, for {purpose}): {cure}"
        rows.append(version([name]) if importable(module) else lack)
    return [f"  {row}" for row in rows]


def backend_lines() -> list[str]:
    """One line a backend: usable or why not."""
    rows = []
    for name in backend.NAMES:
        state = backend.why_not[name]
        detail = f"not usable: {state}" if state else "usable"
        if name == "cpu" and not state:
            file = os.path.basename(importlib.util.find_spec("crnn._C").origin)
            detail += f" ({file}, {torch.get_num_threads()} threads)"
        rows.append(f"  {name:<10} {detail}")
    if torch.cuda.is_available():
        rows.append(f"  torch finds CUDA {torch.version.cuda}: {torch.cuda.get_device_name()}")
    else:
        why = "it is a CPU build" if torch.version.cuda is None else "it sees no GPU or no driver"
        rows.append(f"  torch finds no CUDA device: {why}")
    return rows


def compiler() -> str:
    """The C++ compiler that would build the kernels, in its own words."""
    name = os.environ.get("CXX", "c++")
    if not shutil.which(name):
        return f"no C++ compiler ({name}) on the path; Debian: apt install g++ python3-dev"
    told = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
    return told.stdout.split("\n")[0] or f"{name} gives no version: {told.stderr.strip()}"


def active() -> str:
    """What a CPU tensor and a CUDA tensor run on, and why."""
    forced = os.environ.get("CRNN_BACKEND")
    if forced:
        return f"CRNN_BACKEND={forced} forces that backend"
    cpu, cuda = (name if name in backend.backends() else "reference" for name in ("cpu", "cuda"))
    return f"CPU tensors run on {cpu}, CUDA tensors on {cuda}"


def problems() -> list[str]:
    """What keeps crnn from working here."""
    found = [f"{name} is missing: pip install {name}" for name in missing()]
    forced = os.environ.get("CRNN_BACKEND")
    if forced and forced not in backend.backends():
        why = backend.why_not.get(forced, f"there is none of that name; known: {', '.join(backend.NAMES)}")
        found.append(f"CRNN_BACKEND={forced} cannot be used: {why}")
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn doctor",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--brief", action="store_true", help="one line: versions and the active backends")
    arguments = parser.parse_args(argv)
    found = problems()
    if arguments.brief:
        print(f"crnn {crnn.__version__}, torch {torch.__version__}: {'; '.join(found) or active()}")
        return bool(found)
    print(f"crnn {crnn.__version__} in {os.path.dirname(crnn.__file__)}")
    print(f"Python {platform.python_version()} ({sys.executable}) on {platform.platform()}")
    print("packages", *package_lines(), sep="\n")
    print("backends", *backend_lines(), sep="\n")
    print(f"compiler\n  {compiler()}")
    print(*[f"PROBLEM: {problem}" for problem in found] or [active()], sep="\n")
    return bool(found)
