"""Accuracy against cost: measured over a database, by the command, and in an experiment's report."""

import json

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.experiments import anytime
from crnn.experiments.evaluate import evaluate
from crnn.net.net import Net
from crnn.tools import anytime as command
from crnn.tools import experiment

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true scale: 0.01 } data_param { source: "db" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.01 } data_param { source: "db" batch_size: 4 backend: LMDB } }
layer { name: "pyramid" type: "ImagePyramid" bottom: "data" top: "a" top: "b"
  image_pyramid_param { scale: 2 scale: 4 } }
layer { name: "conv" type: "Convolution" bottom: "a" top: "ca" param { name: "w" }
  convolution_param { num_output: 4 kernel_size: 2 bias_term: false weight_filler { type: "uniform" } } }
layer { name: "conv_b" type: "Convolution" bottom: "b" top: "cb" param { name: "w" }
  convolution_param { num_output: 4 kernel_size: 2 bias_term: false weight_filler { type: "uniform" } } }
layer { name: "pa" type: "Pooling" bottom: "ca" top: "pa" pooling_param { pool: AVE global_pooling: true } }
layer { name: "pb" type: "Pooling" bottom: "cb" top: "pb" pooling_param { pool: AVE global_pooling: true } }
layer { name: "srnn" type: "ScaleRNN" bottom: "pa" bottom: "pb" top: "h1" top: "h2" }
layer { name: "fc" type: "InnerProduct" bottom: "h2" top: "fc" param { name: "f" } param { name: "g" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "fc_1" type: "InnerProduct" bottom: "h1" top: "fc_1" param { name: "f" } param { name: "g" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss_1" type: "SoftmaxWithLoss" bottom: "fc_1" bottom: "label" top: "l1" loss_weight: 0 }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
FIRST, BOTH = 4 * 4 + 16 + 12, 4 * 4 + 16 * 9 + 2 * 16 + 12  # conv, U, fc
EXPERIMENT = """title: "Tiny" solver: "solver.prototxt" seed: [1, 2] views: 1 measure: "top1_error"
cost_curve: true net { name: "srnn" net: "net.prototxt" }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten 4 x 4 images of three classes; the net's and an experiment's texts."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with LmdbWriter("db") as database:
        for i in range(10):
            database.put(b"%08d" % i, encode(rng.integers(0, 256, (1, 4, 4), np.uint8), i % 3))
    (tmp_path / "net.prototxt").write_text(NET)
    solver = 'base_lr: 0.01 lr_policy: "fixed" max_iter: 4 snapshot: 4 display: 2\n'
    (tmp_path / "solver.prototxt").write_text(solver)
    (tmp_path / "experiment.prototxt").write_text(EXPERIMENT)
    return tmp_path


def test_every_answer_over_all_records(folder):
    net = Net("net.prototxt", phase="TEST")
    first, last = anytime.measure(net)
    assert (first.blob, first.multiply_adds) == ("fc_1", FIRST)
    assert (last.blob, last.multiply_adds) == ("fc", BOTH)
    assert last.accuracy == evaluate(net).top(1)
    assert 0 < first.seconds < last.seconds


def test_the_command_prints_and_saves_them(folder, capsys):
    from crnn.net import weights

    weights.save(Net("net.prototxt", phase="TEST"), "w.caffemodel")
    words = ["--model", "net.prototxt", "--weights", "w.caffemodel", "--save", "curve.json"]
    assert command.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "answer" and [line.split()[0] for line in lines[1:]] == ["fc_1", "fc"]
    saved = anytime.load(folder / "curve.json")
    assert [point.multiply_adds for point in saved] == [FIRST, BOTH]
    (folder / "curve.json").write_text("{}[")
    with pytest.raises(ValueError, match=r"curve\.json holds no curve .*: remove it and run again"):
        anytime.load(folder / "curve.json")


def test_an_experiments_report_has_a_table_and_charts(folder, capsys):
    assert experiment.main(["run", "experiment.prototxt", "--out", "out"]) == 0
    points = json.loads((folder / "out/srnn/seed_2/anytime.json").read_text())
    assert [point["blob"] for point in points] == ["fc_1", "fc"]
    report = (folder / "out/report.md").read_text()
    assert "## Accuracy against cost" in report
    rows = [line.split("|")[1:3] for line in report.splitlines() if line.startswith("| srnn | fc")]
    assert [[cell.strip() for cell in row] for row in rows] == [["srnn", "fc_1"], ["srnn", "fc"]]
    page = (folder / "out/report.html").read_text()
    assert page.count('aria-label="million multiply-adds"') == page.count('aria-label="ms an image"') == 1
