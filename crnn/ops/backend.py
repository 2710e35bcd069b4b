"""Which implementation of the ops runs: `reference` (plain torch), `cpu` (C++) or `cuda`.

The compiled ones live in crnn._C and crnn._C_cuda, which are optional. Unless forced, a tensor takes the
compiled backend of its device where there is one, else the reference. Force one with CRNN_BACKEND or
`use_backend`; a forced backend that is missing, or cannot take the tensor, is an error: nothing falls back
silently.
"""

import importlib
import os
from contextlib import contextmanager

import torch

NAMES = ("reference", "cpu", "cuda")
NOT_BUILT = (
    "it was not built; where torch and a C++ compiler are, install crnn again with "
    "pip install --no-build-isolation --no-deps --force-reinstall"
)


def _load(module: str) -> str:
    """Loads a compiled module, which registers its ops; returns why it could not be, or an empty text."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        built = isinstance(error, ModuleNotFoundError) and error.name == module
        if built and module == "crnn._C_cuda":
            return "it was not built (needs nvcc: CRNN_BUILD=cuda at installation)"
        return NOT_BUILT if built else str(error)
    return ""


def _load_cuda() -> str:
    """The same for the CUDA kernels, which are loaded only where there is something to run them on."""
    if torch.version.cuda is None:
        return "this torch has no CUDA"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if why_not["cpu"]:  # crnn._C declares the ops
        return f"it needs crnn._C, and {why_not['cpu']}"
    return _load("crnn._C_cuda")


#: backend -> why it cannot be used; an empty text where it can.
why_not = {
    "reference": "",
    "cpu": _load("crnn._C"),
}
why_not["cuda"] = _load_cuda()


def backends() -> tuple[str, ...]:
    """The usable ones of ("reference", "cpu", "cuda")."""
    return tuple(name for name in NAMES if not why_not[name])


def _checked(name: str) -> str:
    if name not in NAMES:
        raise ValueError(f"unknown backend {name!r}; known: {', '.join(NAMES)}")
    if why_not[name]:
        raise ValueError(f"backend {name!r} is not usable: {why_not[name]}; usable: {', '.join(backends())}")
    return name


_forced: str | None = (
    os.environ.get("CRNN_BACKEND") or None
)  # read once: traced code must not read the environment


@contextmanager
def use_backend(name: str):
    """Runs every crnn op of the block on `name`, in all threads: blocks of several threads must not overlap.

    Raises:
        ValueError: the backend is unknown or not usable here.
    """
    global _forced
    before, _forced = _forced, _checked(name)
    try:
        yield
    finally:
        _forced = before


def choose(tensor: torch.Tensor) -> str:
    """The backend that runs an op on `tensor`."""
    device = tensor.device.type
    if _forced is None:
        return device if device in NAMES and not why_not[device] else "reference"
    if _checked(_forced) != "reference" and _forced != device:
        raise ValueError(f"backend {_forced!r} is forced, but the tensor is on {device}")
    return _forced
