"""doctor: what is installed, which backends run and why the others do not."""

import argparse
import importlib
import importlib.metadata
import os
import platform
import sys

import torch

import crnn
from crnn.ops import backend

PACKAGES = (
    "torch",
    "numpy",
    "protobuf",
    "lmdb",
    "opencv-python-headless",
    "opencv-python",
    "safetensors",
    "matplotlib",
    "h5py",
)


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def backend_lines() -> list[str]:
    """One line a backend: usable or why not."""
    rows = []
    for name in backend.NAMES:
        state = backend.why_not[name]
        detail = "usable" if not state else f"not usable: {state}"
        if name == "cpu" and not state:
            module = importlib.import_module("crnn._C")
            detail += f" ({os.path.basename(module.__file__)}, {torch.get_num_threads()} threads)"
        rows.append(f"  {name:<10} {detail}")
    return rows


def active() -> str:
    """What a CPU tensor and a CUDA tensor run on, and why."""
    forced = os.environ.get("CRNN_BACKEND")
    why = (
        f"forced by CRNN_BACKEND={forced}"
        if forced
        else "the compiled one of the tensor's device, else the reference"
    )
    cuda = "cuda" if "cuda" in backend.backends() else "reference"
    cpu = "cpu" if "cpu" in backend.backends() else "reference"
    return f"CPU tensors run on {forced or cpu}, CUDA tensors on {forced or cuda} ({why})"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="crnn doctor", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--brief", action="store_true", help="one line: versions and the active backend")
    arguments = parser.parse_args(argv)
    if arguments.brief:
        print(f"crnn {crnn.__version__}, torch {torch.__version__}: {active()}")
        return 0
    print(f"crnn {crnn.__version__} in {os.path.dirname(crnn.__file__)}")
    print(f"Python {sys.version.split()[0]} on {platform.platform()}")
    print("packages")
    for package in PACKAGES:
        print(f"  {package:<24} {version(package) or '-'}")
    print("backends")
    print("\n".join(backend_lines()))
    if torch.cuda.is_available():
        print(f"  CUDA {torch.version.cuda}: {torch.cuda.get_device_name()}")
    else:
        print(f"  no CUDA device ({'torch is a CPU build' if torch.version.cuda is None else 'none found'})")
    print(active())
    return 0
