"""Who may import whom (the table of CONTRIBUTING.md), read from the imports themselves."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ANYTHING = {"crnn", "crnn.*"}
#: part -> parts of crnn it may import, packages from outside that it may import
RULES = {
    "crnn.ops": (set(), {"torch"}),
    "crnn.proto": (set(), {"numpy", "google", "grpc_tools", "h5py", "safetensors"}),
    "crnn.nn": ({"crnn.ops"}, {"torch"}),
    "crnn.data": ({"crnn.proto"}, {"numpy", "lmdb", "plyvel", "cv2", "google"}),
    "crnn.layers": ({"crnn.ops", "crnn.proto", "crnn.data"}, {"torch", "numpy"}),
    "crnn.net": ({"crnn.ops", "crnn.layers", "crnn.proto"}, {"torch", "numpy", "safetensors"}),
    "crnn.solver": ({"crnn.ops", "crnn.net", "crnn.proto"}, {"torch", "numpy", "tqdm"}),
    "crnn.report": (set(), {"numpy", "matplotlib"}),
    "crnn.experiments": (
        {"crnn.solver", "crnn.net", "crnn.data", "crnn.decode", "crnn.report", "crnn.proto"},
        {"torch", "numpy", "tqdm", "sklearn"},
    ),
    "crnn.pycaffe": (
        {"crnn.net", "crnn.solver", "crnn.layers", "crnn.data", "crnn.proto"},
        {"torch", "numpy", "h5py"},
    ),
    "crnn.decode": ({"crnn.net"}, {"torch", "numpy"}),
    "crnn.testing": ({"crnn.ops", "crnn.proto"}, {"torch", "numpy"}),
    "crnn.data_tools": ({"crnn.data", "crnn.proto"}, {"numpy", "cv2", "lmdb", "tqdm"}),
    # timing: beside worker.py; caffe: the real one, in a Python of its own
    "crnn.benchmarks": (ANYTHING, {"torch", "numpy", "tqdm", "cv2", "timing", "caffe"}),
    "crnn.tools": (ANYTHING, {"torch", "numpy", "tqdm", "cv2", "matplotlib", "onnxscript"}),
    "crnn": (ANYTHING, set()),
}
#: Loaded where a layer or tool needs them, never by `import` of a module that does not.
NOT_AT_TOP = {
    "crnn.proto": {"h5py"},
    "crnn.data": {"plyvel"},
    "crnn.layers": {"lmdb", "cv2"},
    "crnn.net": {"safetensors"},
    "crnn.experiments": {"sklearn"},
    "crnn.pycaffe": {"h5py"},
    "crnn.tools": {"lmdb", "cv2", "matplotlib"},
}


def sources() -> list[tuple[str, Path]]:
    """(module name, file) of everything that is shipped."""
    found = []
    for folder, package in (
        ("crnn", "crnn"),
        ("data_tools", "crnn.data_tools"),
        ("benchmarks", "crnn.benchmarks"),
    ):
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.relative_to(ROOT / folder).with_suffix("")
            found.append((".".join([package, *(p for p in inside.parts if p != "__init__")]), path))
    return found


def part_of(module: str) -> str:
    """The part that a module belongs to: the longest rule that its name begins with."""
    return max((r for r in RULES if module == r or module.startswith(f"{r}.")), key=len)


def imports(module: str, path: Path) -> list[tuple[str, int, bool]]:
    """(imported module, line, whether at the top of the file)."""
    tree, found = ast.parse(path.read_text()), []
    top = set(map(id, tree.body))
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    [*package.split(".")[: len(package.split(".")) - node.level + 1], *filter(None, [base])]
                )
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "crnn" else [base]
            found += [(name, node.lineno, id(node) in top) for name in names]
    return found


@pytest.mark.parametrize(("module", "path"), sources(), ids=[m for m, _ in sources()])
def test_imports_follow_the_rule(module, path):
    part = part_of(module)
    inside, outside = RULES[part]
    for name, line, at_top in imports(module, path):
        where, root = f"{path.relative_to(ROOT)}:{line}", name.partition(".")[0]
        if root == "crnn":
            home = part_of(name)
            allowed = (
                inside is ANYTHING or home in inside or home == part or name in ("crnn.__version__", "crnn")
            )
            assert allowed, f"{where}: {part} may not import {name}"
        elif root not in sys.stdlib_module_names:
            assert root in outside, f"{where}: {part} may not import {root}"
            late = NOT_AT_TOP.get(part, set())
            assert not (at_top and root in late), f"{where}: import {root} inside the function that needs it"


def test_the_compiled_backends_do_not_include_each_other():
    for path in (ROOT / "csrc").rglob("*.*"):
        if path.parent.name in ("cpu", "cuda"):
            other = {"cpu": "cuda", "cuda": "cpu"}[path.parent.name]
            assert f'"../{other}/' not in path.read_text(), f"{path.relative_to(ROOT)} includes csrc/{other}"
        assert "#include <ATen" not in path.read_text(), f"{path.relative_to(ROOT)}: stable-ABI headers only"
