"""Builds crnn and, where torch and a C++ compiler are, its extension crnn._C.

CRNN_BUILD=auto   (default) build the extension if it can be built; say in one line what was done
CRNN_BUILD=cpu    build it or fail
CRNN_BUILD=none   pure Python
"""

import os
import shutil
import sys
import sysconfig

from setuptools import find_packages, setup

MODE = os.environ.get("CRNN_BUILD", "auto")
FLAGS = [
    "-O3",
    "-g0",
    "-fno-math-errno",
    "-fno-trapping-math",  # no value changes; lets the compiler vectorise a choice such as relu's
    "-fvisibility=hidden",
    "-DPy_LIMITED_API=0x030A0000",  # one binary for every Python from 3.10
    "-DTORCH_TARGET_VERSION=0x020a000000000000",  # and for every torch from 2.10: stable-ABI headers only
    f"-ffile-prefix-map={os.path.dirname(os.path.abspath(__file__))}/=",  # check messages carry no build path
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


def extension() -> dict:
    """The arguments of setup() that build crnn._C; empty for a pure-Python build."""
    if MODE not in ("auto", "cpu", "none"):
        sys.exit(f"CRNN_BUILD must be auto, cpu or none, got {MODE!r}")
    lack = "CRNN_BUILD=none" if MODE == "none" else missing()
    if lack and MODE == "cpu":
        sys.exit(f"CRNN_BUILD=cpu: {lack}")
    print(f"crnn: pure Python ({lack})" if lack else "crnn: building crnn._C (CPU)", file=sys.stderr)
    if lack:
        return {}
    from torch.utils.cpp_extension import BuildExtension, CppExtension

    sources = ["csrc/ops.cpp", *sorted(f"csrc/cpu/{f}" for f in os.listdir("csrc/cpu") if f.endswith(".cpp"))]
    module = CppExtension("crnn._C", sources, extra_compile_args={"cxx": FLAGS}, py_limited_api=True)
    module.depends = [f"{d}/{f}" for d in ("csrc/core", "csrc/cpu") for f in sorted(os.listdir(d))]
    return {
        "ext_modules": [module],
        "cmdclass": {"build_ext": BuildExtension},
        "options": {"bdist_wheel": {"py_limited_api": "cp310"}},
    }


# The systems and the data programs live at the top level, where users look, and ship inside the package.
BESIDE = {"crnn.data_tools": "data_tools", "crnn.prototxt_like": "prototxt_like"}

setup(
    packages=[*find_packages(include=["crnn", "crnn.*"]), *BESIDE],
    package_dir=BESIDE,
    include_package_data=False,  # what MANIFEST.in adds is for the source distribution alone
    package_data={
        "crnn.proto": ["caffe.proto", "caffe.desc"],
        "crnn.prototxt_like": ["**/*.prototxt", "**/*.md"],
    },
    **extension(),
)
