"""Changes one thing in the code that keeps data and snapshots, a sample of mutmut's mutants; runs its tests.

python -m tests.faults.mutants [--sample 20] [--seed 1] [--only records] [--write tests/faults/README.md]

A mutant is killed if a test fails, or takes a minute. Survivors are printed as diffs, to be read: most change
a message, or nothing that can be seen. Needs `pip install mutmut`, whose operators make the mutants; mutmut
itself would run them all, for hours. Tests that start processes of their own see the code as it is.
"""

import argparse
import difflib
import importlib.abc
import importlib.util
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from .readme import put

ROOT = Path(__file__).resolve().parents[2]
TESTS = {
    "crnn/solver/snapshot.py": [
        "solver/test_snapshot.py",
        "solver/test_resume.py",
        "solver/test_precision.py",
    ],
    "crnn/solver/resume.py": [
        "solver/test_resume_file.py",
        "solver/test_snapshot.py",
        "solver/test_resume.py",
    ],
    "crnn/data/records.py": ["data/test_loader.py", "data/test_label_maps.py"],
    "crnn/data/loader.py": ["data/test_loader.py", "data/test_label_maps.py"],
    "crnn/data/lmdb_reader.py": ["data/test_lmdb.py", "data_tools/test_verify.py"],
    "crnn/data/lmdb_writer.py": ["data/test_lmdb.py", "data_tools/test_resume.py"],
    "crnn/data/checksums.py": ["data_tools/test_verify.py", "data_tools/test_resume.py"],
}
SLOW = "kill_9 or many_times or image_files or number_of_workers or fills_its_map or forgets_to_close"
LONGEST = 180  # seconds of a run


def mutants(path: Path) -> list[str]:
    """Every mutant of a file, as the file's text."""
    from libcst import parse_module
    from libcst.metadata import MetadataWrapper
    from mutmut.mutation.file_mutation import MutationVisitor, deep_replace, mutation_operators
    from mutmut.mutation.pragma_handling import IgnoredCode

    code = path.read_text(encoding="utf-8")
    visitor = MutationVisitor(mutation_operators, IgnoredCode(set(), set(), set()), None)
    module = MetadataWrapper(parse_module(code)).visit(visitor)
    made = (deep_replace(module, one.original_node, one.mutated_node).code for one in visitor.mutations)
    return [text for text in dict.fromkeys(made) if text != code]


class Instead(importlib.abc.MetaPathFinder):
    """Loads a module from another file."""

    def __init__(self, name: str, path: Path):
        self.name, self.path = name, path

    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_file_location(name, self.path) if name == self.name else None


def passes(file: str, text: str) -> bool:
    """Whether the tests of a file pass with this text in its place; in a process of its own."""
    import pytest

    with tempfile.TemporaryDirectory(prefix="crnn-mutant-") as folder:
        mutant = Path(folder, Path(file).name)
        mutant.write_text(text, encoding="utf-8")
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.alarm(LONGEST)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            sys.meta_path.insert(0, Instead(file.removesuffix(".py").replace("/", "."), mutant))
            words = [
                "-x",
                "-q",
                "-p",
                "no:cacheprovider",
                "--timeout=60",
                f"-k=not ({SLOW})",
                f"--basetemp={folder}/pytest",
            ]
            os._exit(int(pytest.main([*words, *(f"tests/{name}" for name in TESTS[file])])))
        return os.waitpid(pid, 0)[1] == 0


def change(before: str, after: str) -> str:
    """The lines that differ."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("---", "+++")))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--sample", type=int, default=20, metavar="N", help="mutants of each file (default 20)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default 1)")
    parser.add_argument("--only", metavar="NAME", help="a file, by a part of its name")
    parser.add_argument("--write", type=Path, metavar="README", help="put the table there")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    import numpy  # noqa: F401 (once for all children)
    import torch

    torch.set_num_threads(1)
    rows = ["| file | mutants | tried | killed |", "|---|---|---|---|"]
    tried, killed = 0, 0
    for file in (file for file in TESTS if (arguments.only or "") in file):
        code, every = Path(file).read_text(encoding="utf-8"), mutants(Path(file))
        started = time.monotonic()
        if not passes(file, code):
            raise SystemExit(f"the tests of {file} fail as it is: {' '.join(TESTS[file])}")
        print(f"{file}: {len(every)} mutants, {time.monotonic() - started:.0f} s a run", flush=True)
        sample = Random(arguments.seed).sample(every, min(arguments.sample, len(every)))
        survivors = [text for text in sample if passes(file, text)]
        for text in survivors:
            print(f"survived: {change(code, text)}", flush=True)
        tried, killed = tried + len(sample), killed + len(sample) - len(survivors)
        rows.append(f"| `{file}` | {len(every)} | {len(sample)} | {len(sample) - len(survivors)} |")
        print(rows[-1], flush=True)
    rows.append(f"| all | | {tried} | {killed} ({100 * killed / tried:.0f} %) |")
    print("\n".join(rows))
    if arguments.write:
        put(arguments.write, "mutants", "\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
