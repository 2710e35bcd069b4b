"""`crnn convert`: weights there and back exactly; nets to ONNX and torch.export give what crnn gives."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from crnn.__main__ import main
from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import from_array, read_binary, write_binary
from crnn.testing import ROOT, golden

MODEL = str(golden("tools/logged_iter_30.caffemodel"))
DEPLOY = """
name: "small"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 3 dim: 4 } } }
layer { name: "norm" type: "LRN" bottom: "x" top: "norm" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "rnn" type: "SpatialRNN" bottom: "norm" top: "rnn" spatial_rnn_param { num_output: 6
  line_break: "%s" cell: "%s" weight_filler { type: "xavier" }
  recurrent_filler { type: "gaussian" std: 0.3 } bias_filler { type: "uniform" } } }
layer { name: "pool" type: "Pooling" bottom: "rnn" top: "pool"
  pooling_param { kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "ave" type: "Pooling" bottom: "rnn" top: "ave"
  pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(["convert", *map(str, words)])


@pytest.fixture
def small(tmp_path):
    """net.prototxt and net.caffemodel of a net with each kind of layer that export has to unroll or pad."""

    def write(line_break="carry_value", cell="relu"):
        (tmp_path / "net.prototxt").write_text(DEPLOY % (line_break, cell))
        torch.manual_seed(0)
        net = Net("net.prototxt", phase="TEST")
        weights.save(net, "net.caffemodel")
        return net, torch.randn(2, 3, 3, 4)

    return write


def test_caffes_model_comes_back_to_the_byte(run, capsys):
    assert run(MODEL, "a.safetensors") == 0 and run("a.safetensors", "b.caffemodel") == 0
    assert capsys.readouterr().out.splitlines() == ["a.safetensors: 0.0 MB", "b.caffemodel: 0.0 MB"]
    assert Path("b.caffemodel").read_bytes() == Path(MODEL).read_bytes()
    tensors = safetensors.numpy.load_file("a.safetensors")
    stored = {layer.name: layer for layer in read_binary(MODEL, pb.NetParameter).layer}
    assert sorted(tensors) == ["conv1/0", "conv1/1", "fc/0", "fc/1"]
    assert np.array_equal(tensors["fc/1"], np.float32(stored["fc"].blobs[1].data))


def test_old_forms_doubles_and_diffs_come_back(run):
    net = pb.NetParameter(name="old")
    blob = from_array(np.arange(6.0, dtype=np.float32), diff=np.ones(6, np.float32))
    blob.ClearField("shape")
    blob.num, blob.channels, blob.height, blob.width = 1, 1, 2, 3
    net.layers.add(name="a/b", type=pb.V1LayerParameter.INNER_PRODUCT, blobs=[blob, from_array(np.ones(2))])
    write_binary("old.caffemodel", net)
    assert run("old.caffemodel", "a.safetensors") == 0 and run("a.safetensors", "b.caffemodel") == 0
    assert read_binary("b.caffemodel", pb.NetParameter) == net
    assert safetensors.numpy.load_file("a.safetensors")["a/b/1"].dtype == np.float64
    text = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
    layer { name: "a/b" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2 } }"""
    assert Net(text, weights="a.safetensors").layer("a/b").blobs[0].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("kind", ["safetensors", "h5"])
def test_through_a_net_and_back(run, small, capsys, kind):
    if kind == "h5":
        pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    net, x = small()
    assert run("--net", "net.prototxt", "net.caffemodel", f"a.{kind}") == 0
    assert "copied       2  rnn, fc" in capsys.readouterr().out
    assert run("--net=net.prototxt", f"a.{kind}", "b.caffemodel") == 0
    assert Path("b.caffemodel").read_bytes() == Path("net.caffemodel").read_bytes()
    assert Net("net.prototxt", phase="TEST", weights=f"a.{kind}")(x)["prob"].equal(net(x)["prob"])


def test_onnxruntime_runs_what_was_exported(run, small):
    """The layer is unrolled: plain operations, a Relu a region and direction."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: any machine with crnn[onnx]")
    pytest.importorskip("onnxscript", reason="needs onnxscript: any machine with crnn[onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: any machine with crnn[dev]")
    net, x = small()
    assert run("--net", "net.prototxt", "net.caffemodel", "net.onnx", "-batch=1") == 0
    graph = onnx.load("net.onnx").graph
    assert {node.domain for node in graph.node} == {""}
    operations = [node.op_type for node in graph.node]
    assert not {"Loop", "Scan", "If", "SplitToSequence", "SequenceAt"} & set(operations)
    assert operations.count("Relu") == 4 * 3 * 4
    assert [dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == [1, 3, 3, 4]
    session = onnxruntime.InferenceSession("net.onnx")
    assert [entry.name for entry in session.get_inputs()] == ["x"]
    assert [entry.name for entry in session.get_outputs()] == net.outputs == ["ave", "prob"]
    got = session.run(None, {"x": x[:1].numpy()})
    for value, wanted in zip(got, net(x[:1]).values(), strict=True):
        np.testing.assert_allclose(value, wanted.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("line_break, cell", [("carry_value", "relu"), ("reset", "gru")])
def test_torch_export_runs_without_the_net(run, small, line_break, cell):
    net, x = small(line_break, cell)
    assert run("--net", "net.prototxt", "net.caffemodel", "net.pt2") == 0
    program = torch.export.load("net.pt2")
    assert not [node for node in program.graph.nodes if "crnn" in str(node.target)]
    for got, wanted in zip(program.module()(x), net(x).values(), strict=True):
        torch.testing.assert_close(got, wanted.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "words, message",
    [
        ([MODEL, "a.h5"], ".caffemodel to .h5 needs the net: --net FILE"),
        ([MODEL, "a.bin"], "a.bin: the ending must be one of .caffemodel, .h5"),
        (["nowhere.caffemodel", "a.safetensors"], "nowhere.caffemodel"),
        (["text.safetensors", "a.caffemodel"], "text.safetensors cannot be read as safetensors"),
        (
            ["bare.safetensors", "a.caffemodel"],
            "has no caffe_net in its metadata: give the prototxt by --net",
        ),
        (["odd.safetensors", "a.caffemodel"], "tensor 'weight' is not called LAYER/I"),
        (
            ["--net", golden("tools/logged_net.prototxt"), MODEL, "a.pt2"],
            "reads its data itself (data): give its deploy.prototxt",
        ),
        (["--net", "net.prototxt", "net.caffemodel", "a.pt2", "--batch", 0], "--batch must be at least 1"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(run, small, capsys, words, message):
    small()
    Path("text.safetensors").write_text("no tensors")
    safetensors.numpy.save_file({"fc/0": np.ones(2)}, "bare.safetensors")
    safetensors.numpy.save_file({"weight": np.ones(2)}, "odd.safetensors")
    shutil.copytree(golden("tools/raw_color_lmdb"), "raw_color_lmdb")
    shutil.copy(golden("tools/mean.binaryproto"), "mean.binaryproto")
    assert run(*words) == 1
    error = capsys.readouterr().err
    assert error.startswith("crnn convert: ") and message in error and not [*Path().glob("a.*")]


def test_c_rnn_at_full_size(run):
    """227 x 227 crops through AlexNet's convolutions and the 36 regions in four directions."""
    pytest.importorskip("onnxscript", reason="needs onnxscript: any machine with crnn[onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime: any machine with crnn[dev]")
    text = (ROOT / "prototxt_like/crnn/deploy.prototxt").read_text()
    text = text.replace("num_output: 4096", "num_output: 64")  # the fully connected layers are but large
    Path("deploy.prototxt").write_text(text)
    torch.manual_seed(0)
    net, x = Net("deploy.prototxt", phase="TEST"), torch.randn(1, 3, 227, 227)
    with torch.no_grad():
        for blob in net.parameters():
            blob.normal_(0, (2 / max(blob[0].numel(), 1)) ** 0.5)
    weights.save(net, "net.caffemodel")
    assert run("--net", "deploy.prototxt", "net.caffemodel", "net.onnx", "--batch", 1) == 0
    (got,) = onnxruntime.InferenceSession("net.onnx").run(None, {"data": x.numpy()})
    wanted = net(x)["prob"].detach().numpy()
    assert wanted.max() > 2 / 1000  # not the uniform distribution of an untrained net
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-7)


def test_a_file_that_does_not_fit_is_one_sentence_and_leaves_nothing(run, tmp_path):
    """As on a full disk: a process that may write 1 KiB a file."""
    words = f"ulimit -f 1; {sys.executable} -m crnn convert {MODEL} out.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", words], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "cannot write out.safetensors: Error while serializing" in done.stderr
    assert not list(tmp_path.glob("*safetensors*"))
