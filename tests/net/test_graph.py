"""Wiring, and the problems of a net: all at once, each with its place."""

import pytest
import torch

from crnn.net.net import Net
from crnn.proto.text import PrototxtError


def problems(text, **arguments):
    with pytest.raises(PrototxtError) as raised:
        Net(text, **arguments)
    return raised.value.problems


def source(top="data", dims="dim: 2 dim: 3"):
    return f'layer {{ name: "{top}" type: "Input" top: "{top}" input_param {{ shape {{ {dims} }} }} }}\n'


BROKEN = """name: "broken"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer {
  name: "conv1"
  type: "Convolutoin"
  bottom: "data"
  top: "conv1"
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "dtaa" top: "pool1" pooling_param { kernel_size: 2 } }
layer { name: "norm1" type: "LRN" bottom: "data" top: "norm1" lrn_param { local_size: 4 } }
layer { name: "fc" type: "InnerProduct" bottom: "norm1" bottom: "data" top: "fc" }
layer { name: "data2" type: "Input" top: "data" input_param { shape { dim: 2 } } }
layer { name: "soft" type: "Softmax" bottom: "fc8" top: "soft" propagate_down: true propagate_down: true }
layer { name: "cat" type: "Concat" bottom: "pool1" bottom: "norm1" top: "cat" }
layer { name: "fc8" type: "InnerProduct" bottom: "data" top: "fc8" inner_product_param { num_output: 4 } }
"""


def test_all_problems_are_reported_together_and_only_causes():
    assert problems(BROKEN) == [
        "<text>:5:3: layer 'conv1': unknown layer type 'Convolutoin'; did you mean 'Convolution'?",
        "<text>:10:39: layer 'pool1' (Pooling): bottom 'dtaa' is made by no layer; did you mean 'data'?",
        "<text>:11:1: layer 'norm1' (LRN): local_size must be odd, got 4",
        "<text>:12:1: layer 'fc' (InnerProduct): takes 1 bottom, got 2",
        "<text>:13:37: layer 'data2' (Input): top 'data' is already made at <text>:2:36",
        "<text>:14:1: layer 'soft' (Softmax): propagate_down is for each of 1 bottoms or for none",
        "<text>:14:38: layer 'soft' (Softmax): bottom 'fc8' is made only later, by layer 'fc8'",
    ]


MISREAD = """name: "misread"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 8 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param { num_ouput: 4 } }
layer { name: "relu1" type: "ReLu" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "cnv1" top: "pool1" pooling_param { pool: MIN kernel_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool1" top: "fc" }
layer { name: "soft" type: "Softmax" bottom: "data" bottom: "data" top: "soft" }
"""


def test_problems_of_the_text_and_of_the_wiring_are_reported_together():
    found = problems(MISREAD)
    assert [problem.split(":")[1] for problem in found] == ["3", "4", "5", "5", "7"]
    assert "'num_ouput'" in found[0] and "'num_output'" in found[0]
    assert found[1] == "<text>:4:23: layer 'relu1': unknown layer type 'ReLu'; did you mean 'ReLU'?"
    assert "bottom 'cnv1' is made by no layer; did you mean 'conv1'?" in found[2]
    assert "MIN" in found[3]
    assert "takes 1 bottom, got 2" in found[4]


@pytest.mark.parametrize("lost", ['inputt: "x" input_dim: 1', 'layer { name: "x" type: "Input" topp: "x" }'])
def test_a_blob_whose_maker_could_not_be_read_is_not_missed(lost):
    text = (
        'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }\nlayer { name: "s" type: "Sofmax" top: "z" }'
    )
    typo, wrong_type = problems(f"{lost}\n{text}")
    assert typo.startswith("<text>:1:") and "unknown field" in typo
    assert wrong_type == "<text>:3:19: layer 's': unknown layer type 'Sofmax'; did you mean 'Softmax'?"


def test_a_text_that_is_no_prototxt_is_the_parsers_problem(tmp_path):
    (tmp_path / "page.html").write_text("<!DOCTYPE html><html></html>")
    assert "page.html" in problems(str(tmp_path / "page.html"))[0]


def test_problems_name_the_file(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(BROKEN)
    assert problems(str(path))[0].startswith(f"{path}:5:3: layer 'conv1': unknown layer type")


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        ('type: "Pooling" bottom: "data" top: "data"', "cannot work in place: give top 'data' another name"),
        ('type: "Slice" bottom: "data" top: "a" top: "a"', "top 'a' is named twice"),
        ('type: "ReLU" bottom: "data" top: "a" top: "b"', "takes 1 top, got 2"),
        ('type: "Input" bottom: "data" top: "a"', "takes 0 bottoms, got 1"),
        ('type: "ReLU" bottom: "data" top: "a" loss_weight: [1, 2]', "loss_weight is for each of 1 tops"),
        ('type: "ReLU" bottom: "data" top: "a" param { lr_mult: 1 }', "has 0 blobs, but 1 param entries"),
        ('type: "InnerProduct" bottom: "data" top: "a"', "inner_product_param.num_output must be at least 1"),
        ('type: "Relu6x" bottom: "data" top: "a"', "unknown layer type 'Relu6x'; did you mean 'ReLU'"),
        ('type: "relu" bottom: "data" top: "a"', "unknown layer type 'relu'; did you mean 'ReLU'?"),
        (
            'type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 1 kernel_size: 3 }',
            "needs 1 to 3 spatial axes",
        ),
    ],
)
def test_a_problem_of_one_layer(layer, problem):
    (found,) = problems(source() + f'layer {{ name: "it" {layer} }}')
    assert problem in found
    assert found.startswith("<text>:2:")


@pytest.mark.parametrize("dim", [1 << 21, 1 << 31, 1 << 32])
def test_a_blob_that_no_machine_holds(dim):
    (problem,) = problems(source(dims=f"dim: {dim} dim: {dim}"))
    assert problem.endswith(f"a blob of shape [{dim}, {dim}] would hold more than 2^40 values")
    inner = 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" '
    outputs = f"inner_product_param {{ num_output: {1 << 21} }} }}"
    (problem,) = problems(source(dims="dim: 1 dim: 2097152") + inner + outputs)
    assert "would hold more than 2^40 values" in problem


def test_a_blob_of_a_layer_that_the_phase_leaves_out():
    text = source() + (
        'layer { name: "y" type: "Input" include { phase: TEST } top: "label" }\n'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "loss" }'
    )
    (found,) = problems(text, phase="TRAIN")
    assert found == (
        "<text>:3:61: layer 'loss' (SoftmaxWithLoss): bottom 'label' is made by layer 'y', "
        "which this TRAIN net leaves out"
    )


def test_a_missing_database_is_one_of_the_problems(tmp_path):
    text = f"""
    layer {{ name: "d" type: "Data" top: "data" top: "label"
      data_param {{ source: "{tmp_path}/no_lmdb" backend: LMDB batch_size: 2 }} }}
    layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc" }}
    layer {{ name: "it" type: "Softmaxx" bottom: "data" top: "it" }}
    """
    found = problems(text)
    assert len(found) == 2
    assert "layer 'd' (Data)" in found[0] and "no_lmdb" in found[0]
    assert "unknown layer type 'Softmaxx'" in found[1]


def test_two_layers_with_blobs_need_two_names():
    product = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "%s"
      inner_product_param { num_output: 1 } }"""
    (found,) = problems("\n".join([source(), product % "a", product % "b"]))
    assert found == "<text>:5:1: layer 'fc' (InnerProduct): the name is already taken at <text>:3:1"


def test_outputs_are_the_unread_tops_in_alphabetical_order():
    text = source("z") + source("data") + source("m")
    text += 'layer { name: "r" type: "ReLU" bottom: "data" top: "data" }'
    text += 'layer { name: "s" type: "Softmax" bottom: "m" top: "a" }'
    assert Net(text).outputs == ["a", "data", "z"]


def test_in_place_layers_make_the_blob_anew():
    text = source() + (
        'layer { name: "a" type: "ReLU" bottom: "data" top: "data" }'
        'layer { name: "b" type: "Dropout" bottom: "data" top: "data" dropout_param { dropout_ratio: 0 } }'
        'layer { name: "c" type: "Flatten" bottom: "data" top: "c" flatten_param { axis: 0 } }'
    )
    net = Net(text)
    assert net.outputs == ["c"]
    assert net.shapes == {"data": (2, 3), "c": (6,)}


@pytest.mark.parametrize("layer", ['"LRN" lrn_param { local_size: 3 }', '"MVN"'])
def test_normalising_in_place_is_the_same(layer):
    head = 'force_backward: true input: "x" input_shape { dim: 2 dim: 5 dim: 3 dim: 4 }'
    power = 'layer { name: "p" type: "Power" bottom: "x" top: "p" power_param { scale: 3 } }'
    apart, within = (
        Net(f'{head} {power} layer {{ name: "n" bottom: "p" top: "{top}" type: {layer} }}') for top in "np"
    )
    x, weights = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    gradients = []
    for net, top in ((apart, "n"), (within, "p")):
        (net(x)[top] * weights).sum().backward()
        gradients.append(net.blobs["x"].grad)
    assert apart.blobs["n"].equal(within.blobs["p"]) and gradients[0].equal(gradients[1])


def test_a_weighed_blob_must_not_be_lost_in_place():
    text = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "y" loss_weight: 2
      inner_product_param { num_output: 2 } }
    layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }"""
    assert [
        "works in place on 'y', which has a loss_weight" in said for said in problems(source() + text)
    ] == [True]
