"""Shared libraries that tests compile themselves: the emulated kernels, and all kernels with sanitizers."""

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from crnn.testing import ROOT

TORCH = Path(torch.__file__).parent
COMPILER = os.environ.get("CXX", "c++")
FLAGS = [
    "-std=c++20", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wno-unknown-pragmas",
    "-DTORCH_TARGET_VERSION=0x020a000000000000", f"-I{TORCH / 'include'}",
]  # fmt: skip


def library(folder: Path, sources: Sequence[Path], flags: Sequence[str]) -> Path:
    """The library of all `sources`; an object is compiled again when it or any header has changed.

    Of several processes that ask for it at once, one compiles.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _library(folder, sources, flags)


def _library(folder: Path, sources: Sequence[Path], flags: Sequence[str]) -> Path:
    flags = [*FLAGS, *flags]
    headers = [*ROOT.glob("csrc/*/*.h"), *ROOT.glob("csrc/*/*.cuh"), *ROOT.glob("tests/*/emulator/*.h")]
    common = hashlib.sha256(" ".join([COMPILER, torch.__version__, *flags]).encode())
    for header in sorted(headers):
        common.update(header.read_bytes())

    def compiled(source: Path) -> Path:
        key = common.copy()
        key.update(source.read_bytes())
        out = folder / f"{source.name}-{key.hexdigest()[:16]}.o"
        if not out.exists():
            for stale in folder.glob(f"{source.name}-*.o"):
                stale.unlink()
            part = out.with_suffix(f".{os.getpid()}")
            subprocess.run([COMPILER, *flags, "-x", "c++", "-c", source, "-o", part], check=True)
            part.rename(out)
        return out

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, sources))
    out = folder / f"all-{hashlib.sha256(' '.join(map(str, objects)).encode()).hexdigest()[:16]}.so"
    if not out.exists():
        part, torch_libraries = out.with_suffix(f".{os.getpid()}"), [f"-L{TORCH / 'lib'}", "-ltorch"]
        link = [COMPILER, *flags, "-shared", *objects, "-o", part, *torch_libraries, "-ltorch_cpu", "-lc10"]
        subprocess.run(link, check=True)
        part.rename(out)
    return out
