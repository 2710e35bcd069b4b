"""The tables that stand twice, or must be complete, agree: cells, ops, layers, and what is documented."""

import importlib
import re
from pathlib import Path

import pytest
import torch

import crnn.layers
import crnn.testing
from crnn.layers.base import TYPES
from crnn.ops import backends
from crnn.ops.plan import Direction, LineBreak
from crnn.ops.reference import CELLS
from crnn.ops.update_reference import RULES
from crnn.testing import ROOT, golden, scan_cases

CORE = ROOT / "csrc" / "core"
#: Layer types whose numbers no golden of tests/goldens holds, and the test that shows them instead.
SHOWN_ELSEWHERE = {
    "ArgMax": "layers/test_reduction.py",
    "BatchReindex": "layers/test_gather.py",
    "Bias": "layers/test_norm.py",
    "Clip": "layers/test_activation.py",
    "ContrastiveLoss": "layers/test_margin_loss.py",
    "Data": "layers/test_data.py",
    "DummyData": "layers/test_data.py",
    "Exp": "layers/test_power.py",
    "Filter": "layers/test_gather.py",
    "HDF5Data": "layers/test_file_data.py",
    "HDF5Output": "layers/test_file_data.py",
    "HierarchicalRNN": "layers/test_hierarchical_rnn.py",
    "Im2col": "layers/test_conv.py",
    "ImageData": "layers/test_file_data.py",
    "ImagePyramid": "layers/test_scale_rnn.py",
    "InfogainLoss": "layers/test_log_loss.py",
    "LSTMUnit": "layers/test_recurrent.py",
    "Log": "layers/test_power.py",
    "MVN": "layers/test_norm.py",
    "MemoryData": "layers/test_data.py",
    "MultinomialLogisticLoss": "layers/test_log_loss.py",
    "Parameter": "layers/test_embed.py",
    "Python": "layers/test_python_layer.py",
    "Reduction": "layers/test_reduction.py",
    "SPP": "layers/test_pooling.py",
    "ScaleRNN": "layers/test_scale_rnn.py",
    "Silence": "layers/test_gather.py",
    "SpatialRNN": "ops/test_goldens.py",
    "Split": "layers/test_shape.py",
    "Swish": "layers/test_activation.py",
    "Threshold": "layers/test_activation.py",
    "Tile": "layers/test_gather.py",
    "WindowData": "layers/test_file_data.py",
}


def cpp_cells() -> dict[str, dict[str, int]]:
    """name -> constants of each struct in cells.h that `Cells` lists, with those of the struct it extends."""
    text = (CORE / "cells.h").read_text()
    structs = {
        name: (base, body, {k: int(v) for k, v in re.findall(r"(k\w+) = (\d+)", body)})
        for name, base, body in re.findall(r"struct (\w+)(?: : (\w+))? \{(.*?)\n\};", text, re.DOTALL)
    }

    def constants(name):
        base, _, own = structs[name]
        return {**(constants(base) if base else {}), **own}

    listed = re.search(r"using Cells =\s+CellList<(.*?)>;", text, re.DOTALL)[1]
    found = {}
    for struct in re.split(r",\s*", listed.strip()):
        wanted = ("kGates", "kStates", "kSaved", "kParams")
        found[re.search(r'kName = "(\w+)"', structs[struct][1])[1]] = {
            k: constants(struct)[k] for k in wanted
        }
    return found


def test_cells_of_cpp_are_those_of_python():
    want = {
        name: {"kGates": c.gates, "kStates": c.states, "kSaved": c.saved, "kParams": c.params}
        for name, c in CELLS.items()
    }
    assert cpp_cells() == want
    assert list(cpp_cells()) == list(CELLS)


def test_line_breaks_of_cpp_are_those_of_python():
    pairs = re.findall(
        r"k(\w+) = (\d)", re.search(r"enum class LineBreak.*?};", (CORE / "plan.h").read_text(), re.S)[0]
    )
    assert {name.lower(): int(v) for name, v in pairs} == {
        b.name.lower().replace("_", ""): b.value for b in LineBreak
    }


def test_a_direction_has_the_same_fields_in_cpp():
    text = (CORE / "plan.h").read_text()
    assert int(re.search(r"kFields = (\d+)", text)[1]) == len(Direction._fields)
    assert ", ".join(Direction._fields[:5]) in text


OPS = re.findall(r'm\.def\(\s*"(\w+)\(', (CORE.parent / "ops.cpp").read_text())
IN_PLACE = ["update"]  # nothing to differentiate
ON_CPU = [  # a GPU takes torch's: crnn/ops/recurrent_gradient.py, inner_product.py, transposed.py
    "scan_whole_backward",
    "inner_product",
    "inner_product_input_backward",
    "inner_product_weights_backward",
    "transposed",
]
IN_PARTS = ["spatial_scan", "inner_product", "transposed"]  # the scan's; an op for each input; itself


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_schema_and_fake_kernel(op):
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    name = f"crnn::{op}"
    assert torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
    assert torch._library.simple_registry.singleton.find(name).fake_impl.kernel is not None


@pytest.mark.parametrize("op", [op for op in OPS if not op.endswith("_backward")])
def test_every_op_has_a_definition_cases_and_a_gradient(op):
    reference = "reference" if op == "scan" else f"{op}_reference"
    assert callable(getattr(importlib.import_module(f"crnn.ops.{reference}"), op))
    assert len(getattr(crnn.testing, f"{op}_cases")()) > 1
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    differentiable = torch._C._dispatch_has_kernel_for_dispatch_key(f"crnn::{op}", "Autograd")
    assert differentiable == (f"{op}_backward" in [*OPS, *(f"{o}_backward" for o in IN_PARTS)])
    assert differentiable == (op not in IN_PLACE)


@pytest.mark.parametrize("file", ["csrc/cuda/ops_cuda.cpp", "tests/cuda/emulator/ops_emulated.cpp"])
def test_every_op_has_a_cuda_kernel_and_its_emulation(file):
    assert sorted(re.findall(r'm\.impl\("(\w+)"', (ROOT / file).read_text())) == sorted(
        set(OPS) - set(ON_CPU)
    )


def test_rules_of_cpp_are_those_of_python():
    text = (CORE / "updates.h").read_text()
    structs = re.findall(
        r'struct (\w+) \{.*?kName = "(\w+)";.*?kHistories = (\d), kNumbers = (\d);', text, re.S
    )
    listed = re.split(r",\s*", re.search(r"using Rules =\s+CellList<(.*?)>;", text, re.S)[1])
    assert [s[0] for s in structs] == listed
    rules = {name: (int(histories), int(numbers)) for _, name, histories, numbers in structs}
    assert rules == {name: (r.histories, len(r.numbers)) for name, r in RULES.items()}
    assert list(rules) == list(RULES)


def test_every_cell_and_line_break_is_in_the_case_table():
    cases = scan_cases()
    assert {(c.cell, c.line_break) for c in cases} >= {(c, b.name.lower()) for c in CELLS for b in LineBreak}
    assert len({str(c) for c in cases}) == len(cases), "two cases have one name"


def test_every_layer_type_has_a_golden_or_a_test():
    shown = {
        t
        for net in golden("layers").rglob("net.prototxt")
        for t in re.findall(r'type: "(\w+)"', net.read_text())
    }
    for name in TYPES:
        elsewhere = SHOWN_ELSEWHERE.get(name)
        assert name in shown or elsewhere, (
            f"layer type {name} has no golden and no test named in SHOWN_ELSEWHERE"
        )
        assert elsewhere is None or name in (Path(__file__).parent / elsewhere).read_text(), elsewhere


def test_every_layer_type_that_caffe_has_is_compared_with_it():
    """By the table of `make parity`; the rest has no values of its own, or not the same twice."""
    compared = set(re.findall(r"^\| (\w+) \|", (ROOT / "tests/parity/README.md").read_text(), re.MULTILINE))
    rest = {"DummyData", "HDF5Output", "Input", "MemoryData", "Python"}
    ours = {"HierarchicalRNN", "ImagePyramid", "ScaleRNN", "SpatialRNN"}
    assert set(TYPES) - compared == rest | ours


def test_every_layer_type_says_its_shapes():
    for name, layer in TYPES.items():
        assert layer.__doc__ and "top" in layer.__doc__, (
            f"{name}: the docstring lists bottoms, tops and blobs"
        )
    assert crnn.layers.__doc__


def test_commands_of_experiments_find_the_shipped_files_from_any_folder():
    for path in (ROOT / "prototxt_like").rglob("experiment.prototxt"):
        named = re.findall(r'command: "[^"]*\bprototxt_like/', path.read_text())
        assert not named, f"{path}: {{here}} is its folder, wherever crnn is installed"
