"""`crnn upgrade`: old files to files of today that mean the same."""

import numpy as np
import pytest

from crnn.__main__ import main
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import from_array, read_binary, write_binary
from crnn.proto.text import load
from crnn.testing import golden

V1 = """name: "old"
input: "data" input_dim: 2 input_dim: 3 input_dim: 4 input_dim: 5
layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 inner_product_param { num_output: 2 } }
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(["upgrade", *words])


def test_a_net_text(run, tmp_path, capsys):
    (tmp_path / "old.prototxt").write_text(V1)
    assert run("net", "old.prototxt", "new.prototxt") == 0
    assert capsys.readouterr().out == "Wrote upgraded net to new.prototxt\n"
    net = load("new.prototxt", pb.NetParameter).message
    assert [layer.type for layer in net.layer] == ["Input", "InnerProduct"] and not net.layers
    assert [(p.lr_mult, p.decay_mult) for p in net.layer[1].param] == [(1, 1), (2, 0)]
    assert Net("new.prototxt").shapes["fc"] == (2, 2)


def test_a_binary_net_keeps_its_blobs(run):
    old = pb.NetParameter()
    layer = old.layers.add(name="fc", type=pb.V1LayerParameter.INNER_PRODUCT)
    layer.blobs.append(from_array(weight := np.arange(6.0).reshape(2, 3)))
    write_binary("old.caffemodel", old)
    assert run("net", "old.caffemodel", "new.caffemodel") == 0
    new = read_binary("new.caffemodel", pb.NetParameter).layer[0]
    assert (new.name, new.type, list(new.blobs[0].double_data)) == ("fc", "InnerProduct", [*weight.flat])


def test_a_solver(run, tmp_path):
    (tmp_path / "old.prototxt").write_text('net: "n.prototxt" solver_type: ADAGRAD base_lr: 0.1\n')
    assert run("solver", "old.prototxt", "old.prototxt") == 0
    solver = load("old.prototxt", pb.SolverParameter).message
    assert solver == pb.SolverParameter(net="n.prototxt", type="AdaGrad", base_lr=0.1)


def test_a_file_of_today_stays_what_it_is(run):
    source = str(golden("tools/logged_net.prototxt"))
    assert run("net", source, "new.prototxt") == 0
    assert load("new.prototxt", pb.NetParameter).message == load(source, pb.NetParameter).message


@pytest.mark.parametrize(
    "words, message",
    [
        (["net", "nowhere", "x"], "nowhere"),
        (["net", str(golden("tools/logged_iter_30.solverstate")), "x"], "this is a solver state"),
        (["solver", str(golden("tools/logged_iter_30.caffemodel")), "x"], "this is a binary net"),
        (["net", str(golden("tools/logged_net.prototxt")), "no/folder"], "there is no folder no"),
        (["net", "mixed.prototxt", "x"], "`layers` is the old form of `layer`"),
    ],
)
def test_what_cannot_be_upgraded_is_one_sentence(run, tmp_path, capsys, words, message):
    (tmp_path / "mixed.prototxt").write_text(V1 + 'layer { name: "n" type: "ReLU" bottom: "fc" top: "fc" }')
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("crnn upgrade: ") and not (tmp_path / "x").exists()
