"""crnn insert-rnn: the new net gives the old one's bits, and learns."""

import pytest
import torch

from crnn.__main__ import main
from crnn.net.insert import insert
from crnn.net.net import Net
from crnn.net.weights import save
from crnn.proto.text import PrototxtError
from crnn.proto.upgrade import read_net
from crnn.testing import assert_near

NET = """
name: "trained"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv1" type: "Convolution" bottom: "x" top: "conv1" convolution_param {
  num_output: 8 kernel_size: 3 pad: 1 weight_filler { type: "msra" } bias_filler {
  type: "uniform" min: -1 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" convolution_param {
  num_output: 4 kernel_size: 1 weight_filler { type: "msra" } bias_filler { type: "uniform" min: -1 } } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "relu2" }
layer { name: "both" type: "Eltwise" bottom: "relu2" bottom: "relu2" top: "both" }
layer { name: "fc" type: "InnerProduct" bottom: "both" top: "fc" inner_product_param { num_output: 3
  weight_filler { type: "xavier" } } }
"""


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The net with random weights on disk: net.prototxt, net.caffemodel."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    torch.manual_seed(0)
    net = Net("net.prototxt", phase="TEST")
    save(net, "net.caffemodel")
    return net


def run(*arguments):
    return main(
        ["insert-rnn", "--net", "net.prototxt", "--weights", "net.caffemodel", "--out", "new", *arguments]
    )


@pytest.mark.parametrize("layers", ["conv1:horizontal", "conv2:vertical", "conv1:both,conv2:both"])
def test_the_new_net_gives_the_same_bits(trained, layers, capsys):
    assert run("--layers", layers) == 0
    assert "wrote new.prototxt and new.caffemodel" in capsys.readouterr().out
    new, x = Net("new.prototxt", phase="TEST", weights="new.caffemodel"), torch.randn(2, 3, 6, 5)
    assert torch.equal(new(x)["fc"], trained(x)["fc"])


def test_the_first_gradient_of_v(trained):
    """Xie 2016, eq. 20, half of it for each direction."""
    run("--layers", "conv2:vertical")
    new, x = Net("new.prototxt", phase="TRAIN", weights="new.caffemodel"), torch.randn(2, 3, 6, 5)
    new(x)["fc"].square().sum().backward(inputs=[*new.parameters()])
    z = new.blobs["conv2"].detach()
    top = new.blobs["relu2"].detach().requires_grad_()
    new.layer("fc")(2 * top)[0].square().sum().backward()
    h, delta = torch.relu(z), top.grad * (z > 0)
    down = torch.einsum("ndhw,nchw->dc", delta[:, :, 1:], h[:, :, :-1])
    up = torch.einsum("ndhw,nchw->dc", delta[:, :, :-1], h[:, :, 1:])
    assert_near(new.layer("conv2_rnn").blobs[0].grad, torch.stack([down, up]) / 2, 1e-5)


def test_the_prototxt_alone(trained, tmp_path):
    assert main(["insert-rnn", "-net", "net.prototxt", "-layers", "conv1:both", "-out", "only"]) == 0
    names = [layer.name for layer in read_net("only.prototxt").message.layer]
    assert names == [
        "in",
        "conv1",
        "conv1_rnn_horizontal",
        "conv1_rnn_vertical",
        "conv2",
        "relu2",
        "both",
        "fc",
    ]
    assert not (tmp_path / "only.caffemodel").exists()


def test_nothing_is_written_over(trained, capsys):
    assert run("--layers", "conv1:both") == 0
    assert run("--layers", "conv1:both") == 1
    assert "new.prototxt is there already" in capsys.readouterr().err
    assert run("--layers", "conv1:vertical", "--force") == 0


def test_what_cannot_be_done_is_told_at_once_with_lines():
    text = NET.replace('bottom: "relu2" bottom: "relu2"', 'bottom: "relu2" bottom: "conv2"')
    with pytest.raises(PrototxtError) as error:
        insert(read_net(text), {"conv2": "both", "fc": "both", "conv9": "both"})
    assert [problem.split(": ", 1)[1] for problem in error.value.problems] == [
        "layer 'conv2' (Convolution) gives 'conv2', which 'relu2', 'both' read: the ReLU must be alone",
        "layer 'fc' (InnerProduct) is no Convolution or Deconvolution: an L-RNN goes after one",
        "there is no layer 'conv9'",
    ]
    line = 1 + NET.split("\n").index(
        'layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2" convolution_param {'
    )
    assert error.value.problems[0].startswith(f"<text>:{line}:1: ")


def test_weights_of_another_net(trained, capsys):
    other = NET.replace('"conv1"', '"first"')
    save(Net(other, phase="TEST"), "net.caffemodel")
    assert run("--layers", "conv1:both") == 1
    assert "the weights have no layer 'conv1'" in capsys.readouterr().err
