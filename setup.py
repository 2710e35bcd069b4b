"""Builds crnn and its extensions: crnn._C where torch and a C++ compiler are; crnn._C_cuda where nvcc is too.

CRNN_BUILD=auto   (default) build what can be built here and used with this torch; say in one line what it was
CRNN_BUILD=cpu    build crnn._C or fail
CRNN_BUILD=cuda   build both or fail; needs nvcc (on the path or in CUDA_HOME), no GPU and no torch with CUDA
CRNN_BUILD=none   pure Python
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import find_packages, setup

MODE = os.environ.get("CRNN_BUILD", "auto")
NO_PATHS = f"-ffile-prefix-map={os.path.dirname(os.path.abspath(__file__))}/="  # messages carry no build path
FLAGS = [
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-wrapv",  # against Python's own -fwrapv, with which a scan takes a tenth longer (gcc 12, AVX512)
    "-fno-trapping-math",  # no value changes; lets the compiler vectorise a choice such as relu's
    "-fvisibility=hidden",
    "-DPy_LIMITED_API=0x030A0000",  # one binary for every Python from 3.10
    "-DTORCH_TARGET_VERSION=0x020a000000000000",  # and for every torch from 2.10: stable-ABI headers only
    NO_PATHS,
]
NVCC_FLAGS = [
    "-std=c++20",
    "-O3",
    "-gencode=arch=compute_80,code=sm_80",  # Ampere, Ada
    "-gencode=arch=compute_80,code=compute_80",  # PTX, for what comes after Hopper
    "-gencode=arch=compute_90a,code=sm_90a",  # Hopper
    f"-Xcompiler=-fPIC,-fvisibility=hidden,{NO_PATHS}",
    "-Xptxas=-v",  # registers and spills of each kernel, beside the object: tests/cuda/ptxas_report.py
]


def missing() -> str | None:
    """What the extension cannot be built without, or None."""
    try:
        import torch
    except ImportError:
        return "no torch where pip builds; for the kernels, where torch is: pip install --no-build-isolation"
    if tuple(int(v) for v in torch.__version__.split(".")[:2]) < (2, 10):
        return f"torch {torch.__version__} is older than 2.10, the first with the stable ABI"
    if not shutil.which(os.environ.get("CXX", "c++")):
        return "no C++ compiler (c++) on the path"
    if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
        return "no Python.h (Debian: apt install python3-dev)"
    return None


def nvcc() -> str | None:
    """CUDA's compiler, if there is one."""
    homes = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    path = os.pathsep.join([*(f"{home}/bin" for home in homes if home), os.environ.get("PATH", "")])
    return shutil.which("nvcc", path=path)


def wants_cuda() -> bool:
    """Whether crnn._C_cuda is built. Raises SystemExit where it was asked for and cannot be."""
    import torch

    if MODE == "cuda" and not nvcc():
        sys.exit("CRNN_BUILD=cuda: no nvcc on the path or in CUDA_HOME/bin")
    return MODE == "cuda" or (MODE == "auto" and torch.version.cuda is not None and nvcc() is not None)


def compile_kernels(folder: Path) -> list[str]:
    """The objects of csrc/cuda/*.cu; one is compiled again when it, a header or this file has changed."""
    folder.mkdir(parents=True, exist_ok=True)
    headers = [*Path("csrc/cuda").glob("*.cuh"), *Path("csrc").glob("c*/*.h"), Path(__file__)]
    newest = max(header.stat().st_mtime for header in headers)

    def compiled(source: Path) -> str:
        out = folder / f"{source.stem}.o"
        if out.exists() and out.stat().st_mtime > max(newest, source.stat().st_mtime):
            return str(out)
        command = [nvcc(), *NVCC_FLAGS, "-c", str(source), "-o", str(out)]
        result = subprocess.run(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        if result.returncode:
            out.unlink(missing_ok=True)
            sys.exit(f"{' '.join(command)}\n{result.stdout}")
        out.with_suffix(".ptxas").write_text(result.stdout)
        return str(out)

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", os.cpu_count()))) as pool:
        return list(pool.map(compiled, sorted(Path("csrc/cuda").glob("*.cu"))))


def cuda_runtime() -> list[str]:
    """What links CUDA's runtime into the extension, so that it needs the driver alone."""
    said = subprocess.run([nvcc(), "--dryrun", "x.cu"], capture_output=True, text=True, check=False).stderr
    folders = re.findall(r'"(-L[^"]+)"', next(line for line in said.splitlines() if "LIBRARIES=" in line))
    return [*folders, "-lcudart_static", "-ldl", "-lrt", "-lpthread"]


def extension() -> dict:
    """The arguments of setup() that build the extensions; empty for a pure-Python build."""
    if MODE not in ("auto", "cpu", "cuda", "none"):
        sys.exit(f"CRNN_BUILD must be auto, cpu, cuda or none, got {MODE!r}")
    lack = "CRNN_BUILD=none" if MODE == "none" else missing()
    if lack and MODE in ("cpu", "cuda"):
        sys.exit(f"CRNN_BUILD={MODE}: {lack}")
    if lack:
        print(f"crnn: pure Python ({lack})", file=sys.stderr)
        return {}
    cuda = wants_cuda()
    print(f"crnn: building crnn._C (CPU){' and crnn._C_cuda' if cuda else ''}", file=sys.stderr)
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    class Build(BuildExtension):
        def finalize_options(self):
            super().finalize_options()
            if self.editable_mode:  # pip's folder is gone afterwards: objects stay where build_ext finds them
                self.build_temp = f"build/temp.{self.plat_name}-{sys.implementation.cache_tag}"

        def build_extension(self, ext):
            if ext.name == "crnn._C_cuda":
                ext.extra_objects = compile_kernels(Path(self.build_temp) / "cuda")
                ext.extra_link_args = [*ext.extra_link_args, *cuda_runtime()]
            super().build_extension(ext)

    def module(name: str, *folders: str) -> CppExtension:
        sources = sorted(str(f) for folder in folders for f in Path("csrc", folder).glob("*.cpp"))
        made = CppExtension(name, sources, extra_compile_args={"cxx": FLAGS}, py_limited_api=True)
        made.depends = sorted(str(f) for d in ("core", *folders) for f in Path("csrc", d).glob("*.*"))
        return made

    return {
        "ext_modules": [module("crnn._C", "", "cpu"), *([module("crnn._C_cuda", "cuda")] if cuda else [])],
        "cmdclass": {"build_ext": Build},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


# What lives at the top level, where users look, and ships inside the package.
BESIDE = {f"crnn.{name}": name for name in ("benchmarks", "data_tools", "prototxt_like")}

setup(
    packages=[*find_packages(include=["crnn", "crnn.*"]), *BESIDE],
    package_dir=BESIDE,
    include_package_data=False,  # what MANIFEST.in adds is for the source distribution alone
    package_data={
        "crnn.proto": ["caffe.proto", "caffe.desc"],
        "crnn.prototxt_like": ["**/*.prototxt", "**/*.md", "**/*.py"],
    },
    **extension(),
)
