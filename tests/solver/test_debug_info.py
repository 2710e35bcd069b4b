"""debug_info: the lines that Caffe logs of every blob and diff, where and when it logs them."""

import re
import shutil
import subprocess

import pytest
import torch

from crnn.net import weights
from crnn.net.debug_info import DebugNet
from crnn.net.net import Net
from crnn.proto.upgrade import read_solver
from crnn.pycaffe.solver import LiveLoop
from crnn.solver.events import Displayed, Note, Scored
from crnn.solver.log import GlogLines
from crnn.solver.solver import Solver
from crnn.testing import ROOT, golden

ORACLE = ROOT / "build/oracle/bin/python"
SMALL = """
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 1 dim: 2 } shape { dim: 1 dim: 1 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" }
  inner_product_param { num_output: 1 weight_filler { value: 2 } bias_filler { value: -1 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
layer { name: "quiet" type: "Silence" bottom: "y" }
"""
DATA = f"""layer {{ name: "data" type: "Data" top: "data" top: "label" transform_param {{ scale: 0.01 }}
  data_param {{ source: "{golden("tools/raw_color_lmdb")}" batch_size: 4 backend: LMDB }} }}"""
#: Splits, a layer in place, shared and fixed blobs, a cut gradient, loss weights, a layer without a loss.
NET = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { name: "k" lr_mult: 1 }
  param { lr_mult: 0 } convolution_param { num_output: 4 kernel_size: 5 stride: 4 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "twin" type: "Convolution" bottom: "data" top: "twin" param { name: "k" lr_mult: 1 }
  param { lr_mult: 2 } convolution_param { num_output: 4 kernel_size: 5 stride: 4 } }
layer { name: "cut" type: "TanH" bottom: "conv" top: "cut" propagate_down: false }
layer { name: "sum" type: "Eltwise" bottom: "conv" bottom: "twin" bottom: "cut" top: "sum" }
layer { name: "fc" type: "InnerProduct" bottom: "sum" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "side" type: "InnerProduct" bottom: "sum" top: "side" inner_product_param { num_output: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" loss_weight: 0.5 }
layer { name: "power" type: "Power" bottom: "fc" top: "power" power_param { power: 2 } }
layer { name: "mean" type: "Reduction" bottom: "power" top: "mean" loss_weight: 0.1 }
"""


def said(fields: str, net: str, kind=Solver) -> tuple[Solver, list]:
    head = 'base_lr: 0.1 lr_policy: "fixed" random_seed: 3 snapshot_after_train: false display: 1'
    events = []
    return kind(f"{head} {fields}\nnet_param {{ {net} }}", [events.append]), events


def texts(events) -> list[str]:
    return [e.text.strip() for e in events if isinstance(e, Note) and e.text.startswith("    [")]


def test_every_line_of_a_small_net():
    """y = 2·1 + 2·3 - 1 = 7, t = 4: loss 4.5, dy 3, dw (3, 9), db 3."""
    solver, events = said("debug_info: true", SMALL)
    feed = {"x": torch.tensor([[1.0, 3.0]]), "t": torch.tensor([[4.0]])}
    solver.step(1, feed)
    assert texts(events) == [
        "[Forward] Layer in, top blob x data: 2",
        "[Forward] Layer in, top blob t data: 4",
        "[Forward] Layer fc, top blob y data: 7",
        "[Forward] Layer fc, param blob w data: 2",
        "[Forward] Layer fc, param blob 1 data: 1",
        "[Forward] Layer y_fc_0_split, top blob y_fc_0_split_0 data: 7",
        "[Forward] Layer y_fc_0_split, top blob y_fc_0_split_1 data: 7",
        "[Forward] Layer loss, top blob loss data: 4.5",
        "[Backward] Layer loss, bottom blob y_fc_0_split_0 diff: 3",
        "[Backward] Layer y_fc_0_split, bottom blob y diff: 3",
        "[Backward] Layer fc, param blob 0 diff: 6",
        "[Backward] Layer fc, param blob 1 diff: 3",
        "[Backward] All net params (data, diff): L1 norm = (5, 15); L2 norm = (3, 9.94987)",
    ]


def test_the_passes_of_an_iteration_add_up():
    solver, events = said("debug_info: true iter_size: 2", SMALL)
    solver.step(1, {"x": torch.tensor([[1.0, 3.0]]), "t": torch.tensor([[4.0]])})
    found = [text for text in texts(events) if "param blob 0 diff" in text]
    assert [text[-2:].strip() for text in found] == ["6", "12"]


def test_only_displayed_iterations_are_told_of():
    solver, events = said("debug_info: true", SMALL)
    solver.param.display = 2
    feed = {"x": torch.ones(1, 2), "t": torch.ones(1, 1)}
    solver.step(3, feed)
    at = [e.iter for e in events if isinstance(e, Displayed)]
    assert at == [0, 2] and sum("All net params" in text for text in texts(events)) == 2


def test_test_nets_are_told_of_at_every_test():
    solver, events = said("debug_info: true test_iter: 2 test_interval: 1", DATA + NET)
    solver.param.display = 0
    solver.step(1)
    end = next(i for i, event in enumerate(events) if isinstance(event, Scored))
    assert sum(text.startswith("[Forward] Layer accuracy, top") for text in texts(events[:end])) == 2
    assert texts(events[end:]) == [] and not any("Backward" in text for text in texts(events))


def test_pycaffes_solvers_say_the_same():
    feed = {"x": torch.tensor([[1.0, 3.0]]), "t": torch.tensor([[4.0]])}
    (one, lines), (two, others) = (
        said("debug_info: true iter_size: 2", SMALL, kind) for kind in (Solver, _live)
    )
    one.step(2, feed), two.step(2, feed)
    assert texts(lines) == texts(others) and len(texts(lines)) == 4 * 13


def _live(text, listeners):
    solver = LiveLoop(read_solver(text))
    solver.listeners[:] = listeners
    return solver


@pytest.mark.parametrize("fields", ["", "iter_size: 2 clip_gradients: 0.1"])
def test_the_training_is_the_same_to_the_bit(fields):
    (loud, _), (quiet, events) = said(f"debug_info: true {fields}", DATA + NET), said(fields, DATA + NET)
    assert type(quiet.net) is Net and type(loud.net) is DebugNet
    loud.step(3), quiet.step(3)
    assert all(torch.equal(p.blob, q.blob) for p, q in zip(loud.params, quiet.params, strict=True))
    assert texts(events) == []


def test_the_sum_over_all_blobs_is_logged_as_an_error(tmp_path):
    with open(tmp_path / "log", "w") as stream:
        GlogLines(stream)(Note("net.cpp:721", "    [Backward] All net params", severity="E"))
        GlogLines(stream)(Note("net.cpp:593", "    [Forward] Layer x"))
    one, two = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(r"E\d{4} [\d:.]+ +\d+ net\.cpp:721\]     \[Backward\] All net params", one)
    assert two.startswith("I")


# ---- the real Caffe ----

PROGRAM = """
import sys, caffe
solver = caffe.get_solver("solver.prototxt")
solver.net.copy_from("start.caffemodel")
solver.step(3)
"""


@pytest.mark.skipif(not ORACLE.exists(), reason="runs where `make oracle` has built the real Caffe")
@pytest.mark.parametrize("kind", [Solver, LiveLoop])
@pytest.mark.parametrize("fields", ["", "iter_size: 2", "test_iter: 2 test_interval: 2", "type: 'Adam'"])
def test_the_lines_are_those_of_the_real_caffe(fields, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(golden("tools/raw_color_lmdb"), "lmdb")  # Caffe writes a lock into it
    (tmp_path / "net.prototxt").write_text(DATA.replace(str(golden("tools/raw_color_lmdb")), "lmdb") + NET)
    head = f'net: "net.prototxt" base_lr: 0.01 lr_policy: "fixed" display: 2 debug_info: true {fields}\n'
    (tmp_path / "solver.prototxt").write_text(head + "solver_mode: CPU snapshot_after_train: false")
    solver, events = kind(read_solver("solver.prototxt")), []
    solver.listeners[:] = [events.append]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for param in solver.net.params:
            param.parameter.normal_(0, 0.1, generator=generator)
    weights.save(solver.net, "start.caffemodel")
    solver.step(3)
    got = [(e.severity, e.text.strip()) for e in events if isinstance(e, Note) and e.text.startswith("    [")]
    done = subprocess.run([ORACLE, "-c", PROGRAM], capture_output=True, text=True, check=True)
    rows = re.findall(r"^([IE])\d.*\]     (\[(?:Forward|Backward)\] .*)$", done.stderr, re.MULTILINE)
    assert [(kind, without_numbers(text)) for kind, text in got] == [
        (kind, without_numbers(text)) for kind, text in rows
    ]
    for (_, mine), (_, theirs) in zip(got, rows, strict=True):
        assert numbers(mine) == pytest.approx(numbers(theirs), rel=1e-4, abs=1e-9), theirs


def without_numbers(text: str) -> str:
    head, _, values = text.partition(": ")
    return head + re.sub(r"[-\d.e+]*\d", "#", re.sub(r"L[12]", "L", values))


def numbers(text: str) -> list[float]:
    values = re.sub(r"L[12]", "", text.partition(": ")[2])
    return [float(value) for value in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?", values)]
