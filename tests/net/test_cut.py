"""Fully connected layers as convolutions: the same function, and the same on fewer channels."""

import numpy as np
import pytest
import torch

from crnn.__main__ import main
from crnn.net.cut import Cut, cut
from crnn.net.net import Net
from crnn.net.weights import save, to_message
from crnn.proto.blobs import from_array, to_array

HEAD = """
layer {{ name: "in" type: "Input" top: "x"
  input_param {{ shape {{ dim: 1 dim: 2 dim: {size} dim: {size} }} }} }}
layer {{ name: "conv" type: "Convolution" bottom: "x" top: "conv" convolution_param {{
  num_output: 3 kernel_size: 1 weight_filler {{ type: "msra" }} }} }}
"""
CLASSIFIER = HEAD.format(size=4) + "".join(
    f"""
layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" inner_product_param {{
  num_output: {n} weight_filler {{ type: "gaussian" std: 1 }} bias_filler {{ type: "gaussian" std: 1 }} }} }}
"""
    for name, bottom, n in (("fc6", "conv", 6), ("fc7", "fc6", 5))
)


def convolutional(first: int, second: int, size: int) -> str:
    return HEAD.format(size=size) + "".join(
        f"""
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param {{
  num_output: {n} kernel_size: {kernel} }} }}
"""
        for name, bottom, n, kernel in (("fc1", "conv", first, 4), ("fc2", "fc1", second, 1))
    )


@pytest.fixture
def trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = Net(CLASSIFIER, phase="TEST")
    save(net, "vgg.caffemodel")
    return net


def test_the_convolutions_give_the_classifiers_values_at_every_place(trained, capsys):
    words = ["cut-weights", "--weights", "vgg.caffemodel", "--layers", "fc6:fc1:6,fc7:fc2:5"]
    assert main([*words, "--out", "made/fcn.caffemodel"]) == 0
    x = torch.randn(1, 2, 6, 6)
    got = Net(convolutional(6, 5, 6), phase="TEST", weights="made/fcn.caffemodel")(x)["fc2"]
    for i in range(3):
        for j in range(3):
            want = trained(x[:, :, i : i + 4, j : j + 4])["fc7"]
            torch.testing.assert_close(got[:, :, i, j], want)
    assert main([*words, "--out", "made/fcn.caffemodel"]) == 1
    assert "made/fcn.caffemodel is there already" in capsys.readouterr().err


def test_what_is_left_are_the_old_weights_between_the_channels_kept(trained):
    message = to_message(trained)
    old = {layer.name: [to_array(blob) for blob in layer.blobs] for layer in message.layer}
    cut(message, [Cut("fc6", "fc1", 4), Cut("fc7", "fc2", 2)], np.random.default_rng(3))
    new = {layer.name: [to_array(blob) for blob in layer.blobs] for layer in message.layer}
    assert new["fc1"][0].shape == (4, 3, 4, 4) and new["fc2"][0].shape == (2, 4, 1, 1)
    first = [old["fc6"][1].tolist().index(bias) for bias in new["fc1"][1].tolist()]
    second = [old["fc7"][1].tolist().index(bias) for bias in new["fc2"][1].tolist()]
    assert first == sorted(set(first)) and second == sorted(set(second))
    np.testing.assert_array_equal(new["fc1"][0].reshape(4, -1), old["fc6"][0][first])
    np.testing.assert_array_equal(new["fc2"][0].reshape(2, 4), old["fc7"][0][np.ix_(second, first)])
    np.testing.assert_array_equal(new["conv"][0], old["conv"][0])


def test_equal_seeds_cut_alike(trained):
    made = []
    for seed in (1, 1, 2):
        message = to_message(trained)
        cut(message, [Cut("fc6", "fc1", 3)], np.random.default_rng(seed))
        made.append(message.SerializeToString())
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ([Cut("fc8", "fc1", 3)], "no layer 'fc8' to cut"),
        ([Cut("fc6", "fc1", 7)], "layer 'fc6' has 6 outputs, wanted 1 to that, got 7"),
        ([Cut("conv", "fc1", 1)], "layer 'conv' has 2 inputs, no square maps of 0 channels"),
    ],
)
def test_what_cannot_be_cut(trained, cuts, message):
    with pytest.raises(ValueError, match=message):
        cut(to_message(trained), cuts, np.random.default_rng(0))


def test_transposed_weights_are_read_as_they_lie(trained):
    message, turned = to_message(trained), to_message(trained)
    for layer in turned.layer:
        if layer.name == "fc7":
            matrix = to_array(layer.blobs[0]).T.copy()
            layer.blobs[0].CopyFrom(from_array(matrix))
            layer.inner_product_param.transpose = True
    cuts = [Cut("fc6", "fc1", 6), Cut("fc7", "fc2", 5)]
    for one in (message, turned):
        cut(one, cuts, np.random.default_rng(0))
    blobs = [[to_array(layer.blobs[0]) for layer in one.layer if layer.blobs] for one in (message, turned)]
    for one, other in zip(*blobs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_is_cut_once(capsys):
    with pytest.raises(SystemExit):
        main(["cut-weights", "--weights", "a", "--layers", "fc6:a:2,fc6:b:1", "--out", "b"])
    assert "layer 'fc6' is named twice" in capsys.readouterr().err


def test_a_layer_is_given_one_rnn(capsys):
    with pytest.raises(SystemExit):
        main(["insert-rnn", "--net", "a", "--layers", "conv1:horizontal,conv1:vertical", "--out", "b"])
    assert "layer 'conv1' is named twice" in capsys.readouterr().err
