"""A net's answers before it has run whole, and what each of them takes."""

import pytest
import torch

from crnn.net.anytime import answers, answers_of
from crnn.net.net import Net
from crnn.ops.scales import scale_rnn

SRNN = """
layer { name: "x" type: "Input" top: "a" top: "b" top: "c" top: "label"
  input_param { shape { dim: [2, 3, 8, 8] } shape { dim: [2, 3, 8, 8] } shape { dim: [2, 3, 8, 8] }
    shape { dim: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "a" top: "ca" param { name: "w" } param { name: "v" }
  convolution_param { num_output: 5 kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
layer { name: "conv_b" type: "Convolution" bottom: "b" top: "cb" param { name: "w" } param { name: "v" }
  convolution_param { num_output: 5 kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
layer { name: "conv_c" type: "Convolution" bottom: "c" top: "cc" param { name: "w" } param { name: "v" }
  convolution_param { num_output: 5 kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
layer { name: "pa" type: "Pooling" bottom: "ca" top: "pa" pooling_param { pool: AVE global_pooling: true } }
layer { name: "pb" type: "Pooling" bottom: "cb" top: "pb" pooling_param { pool: AVE global_pooling: true } }
layer { name: "pc" type: "Pooling" bottom: "cc" top: "pc" pooling_param { pool: AVE global_pooling: true } }
layer { name: "srnn" type: "ScaleRNN" bottom: "pa" bottom: "pb" bottom: "pc" top: "h1" top: "h2" top: "h3"
  scale_rnn_param { cell: "half_gru" } }
layer { name: "fc3" type: "InnerProduct" bottom: "h3" top: "fc3" param { name: "f" } param { name: "g" }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "fc1" type: "InnerProduct" bottom: "h1" top: "fc1" param { name: "f" } param { name: "g" }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc3" bottom: "label" top: "loss" }
layer { name: "right" type: "Accuracy" bottom: "fc1" bottom: "label" top: "right" }
"""
CONV, STEP, FC = 5 * 3 * 9 * 3 * 3, 3 * 5 * 5, 5 * 4  # 3 x 3 places of a 8 x 8 image; U, W_z and U_z


def given():
    return {name: torch.rand(2, 3, 8, 8) for name in "abc"} | {"label": torch.zeros(2)}


def test_an_answer_costs_the_layers_below_it_and_the_scales_it_has_seen():
    net = Net(SRNN, phase="TEST")
    costs = {answer.blob: answer.multiply_adds for answer in answers_of(net)}
    assert costs == {"fc1": CONV + STEP + FC, "fc3": 3 * (CONV + STEP) + FC}
    assert list(costs) == ["fc1", "fc3"]


def test_answers_come_in_turn_and_equal_those_of_the_whole_net():
    net, blobs = Net(SRNN, phase="TEST"), given()
    with torch.no_grad():
        for blob in net.layer("srnn").blobs:
            blob.normal_(0, 0.3)
        net(**blobs)
        want = {name: net.blobs[name].clone() for name in ("fc1", "fc3")}
        got = answers(net, **blobs)
        name, scores = next(got)
        assert name == "fc1" and {"pb", "cc", "h2"}.isdisjoint(net.blobs)  # they have not run
        torch.testing.assert_close(scores, want["fc1"])
        name, scores = next(got)
        assert name == "fc3"
        torch.testing.assert_close(scores, want["fc3"])


def test_images_that_have_fewer_scales_keep_their_last_state():
    """The counts go on to every state, as far as it has come."""
    text = SRNN.replace('top: "label"', 'top: "label" top: "count"', 1).replace(
        "shape { dim: 2 } }", "shape { dim: 2 } shape { dim: 2 } }"
    )
    text = text.replace('bottom: "pc" top: "h1"', 'bottom: "pc" bottom: "count" top: "h1"')
    text = text.replace('cell: "half_gru"', 'cell: "half_gru" counted: true')
    net, blobs = Net(text, phase="TEST"), given() | {"count": torch.tensor([1.0, 3.0])}
    with torch.no_grad():
        (_, first), (_, last) = answers(net, **blobs)
        torch.testing.assert_close(first[0], last[0])
        assert not torch.allclose(first[1], last[1])
        features = [net.blobs[name].flatten(1) for name in ("pa", "pb", "pc")]
        states = scale_rnn(features, *net.layer("srnn").blobs, count=blobs["count"])
        torch.testing.assert_close(net.blobs["h3"], states[2])


def test_multiply_adds_of_a_known_net():
    """LeNet for 28 x 28, by hand: 20 x 25 x 24 x 24, 50 x 500 x 8 x 8, 800 x 500, 500 x 10."""
    layers = (
        ("c1", "Convolution", "x", "convolution_param { num_output: 20 kernel_size: 5 }"),
        ("p1", "Pooling", "c1", "pooling_param { kernel_size: 2 stride: 2 }"),
        ("c2", "Convolution", "p1", "convolution_param { num_output: 50 kernel_size: 5 }"),
        ("p2", "Pooling", "c2", "pooling_param { kernel_size: 2 stride: 2 }"),
        ("f1", "InnerProduct", "p2", "inner_product_param { num_output: 500 }"),
        ("f2", "InnerProduct", "f1", "inner_product_param { num_output: 10 }"),
        ("prob", "Softmax", "f2", ""),
    )
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [7, 1, 28, 28] } } }'
    for name, kind, bottom, fields in layers:
        text += f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {fields} }}'
    net = Net(text, phase="TEST")
    (answer,) = answers_of(net)
    assert (answer.blob, answer.multiply_adds) == ("prob", 288_000 + 1_600_000 + 400_000 + 5_000)


def test_a_net_without_scores():
    text = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 2] } } }'
    with pytest.raises(ValueError, match="has no Softmax, SoftmaxWithLoss or Accuracy: it gives no answer"):
        answers_of(Net(text, phase="TEST"))


def test_a_layer_whose_products_are_not_known():
    text = """layer { name: "x" type: "Input" top: "x" top: "c"
      input_param { shape { dim: [3, 2, 4] } shape { dim: [3, 2] } } }
    layer { name: "lstm" type: "RNN" bottom: "x" bottom: "c" top: "y" recurrent_param { num_output: 4 } }
    layer { name: "prob" type: "Softmax" bottom: "y" top: "prob" }"""
    with pytest.raises(ValueError, match=r"layer 'lstm' \(RNN\): its multiply-adds are not known"):
        answers_of(Net(text, phase="TEST"))
