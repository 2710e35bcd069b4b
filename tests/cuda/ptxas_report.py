"""What nvcc said of each kernel; fails where a kernel that must live in registers does not.

    CRNN_BUILD=cuda python setup.py build_ext --inplace
    python tests/cuda/ptxas_report.py

Reads the .ptxas files beside the objects (setup.py) and, where cuobjdump is (the extra `cuda`, or a CUDA
toolkit), the machine code: no kernel of IN_REGISTERS may have a stack frame, a spill, or an instruction that
touches local memory.
"""

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
#: Names of kernels whose speed rests on their operands staying in registers.
IN_REGISTERS = (
    "resident_forward",
    "resident_backward",
    "resident_spatial",
    "gemm_forward",
    "gemm_backward",
)


class Kernel(NamedTuple):
    name: str
    arch: str
    registers: int
    stack: int  # bytes
    spills: int  # bytes

    @property
    def must_fit(self) -> bool:
        return any(name in self.name for name in IN_REGISTERS)


def kernels(report: str) -> list[Kernel]:
    """The kernels of one `ptxas -v` output."""
    found = []
    blocks = re.split(r"Compiling entry function ", report)[1:]
    for block in blocks:
        name, arch = re.match(r"'(\w+)' for '(\w+)'", block).groups()
        stack, stores = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", block).groups()
        registers = re.search(r"Used (\d+) registers", block)[1]
        found.append(Kernel(name, arch, int(registers), int(stack), int(stores)))
    return found


def cuobjdump() -> str | None:
    """The disassembler, from the path or from PyPI's packages, whose nvdisasm it is told to use."""
    spec = importlib.util.find_spec("nvidia")
    folders = [
        str(f) for p in (spec.submodule_search_locations if spec else ()) for f in Path(p).glob("*/bin")
    ]
    os.environ["PATH"] = os.pathsep.join([*folders, os.environ["PATH"]])
    return shutil.which("cuobjdump") if shutil.which("nvdisasm") else None


def touches_local_memory(library: Path, tool: str) -> list[str]:
    """Kernels of IN_REGISTERS with an LDL or STL instruction in their machine code."""
    dump = subprocess.Popen([tool, "--dump-sass", library], stdout=subprocess.PIPE, text=True)
    guilty, name = set(), ""
    for line in dump.stdout:
        if "Function :" in line:
            name = line.split()[-1]
        elif re.search(r"\b(LDL|STL)\b", line) and any(n in name for n in IN_REGISTERS):
            guilty.add(name)
    if dump.wait():
        sys.exit(f"{tool} --dump-sass {library} failed")
    return sorted(guilty)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", type=Path, default=ROOT / "build", help="folder with the .ptxas files")
    parser.add_argument("--library", type=Path, default=ROOT / "crnn" / "_C_cuda.abi3.so")
    arguments = parser.parse_args()
    found = [k for f in sorted(arguments.build.rglob("*.ptxas")) for k in kernels(f.read_text())]
    held = [k for k in found if k.must_fit]
    if not held:
        print(f"no .ptxas report under {arguments.build}: build with CRNN_BUILD=cuda first")
        return 1
    guilty = [f"{k.name} {k.arch}: {k.stack} bytes of stack, {k.spills} spilled" for k in held if k.stack]
    tool = cuobjdump()
    if tool:
        guilty += [
            f"{name}: LDL or STL in its machine code"
            for name in touches_local_memory(arguments.library, tool)
        ]
    for arch in sorted({k.arch for k in held}):
        most = max((k for k in held if k.arch == arch), key=lambda k: k.registers)
        count = sum(k.arch == arch for k in held)
        print(f"{arch}: {count} kernels in registers, at most {most.registers} each")
    print(f"machine code {'read' if tool else 'not read: no cuobjdump and nvdisasm'}", *guilty, sep="\n")
    return 1 if guilty else 0


if __name__ == "__main__":
    sys.exit(main())
