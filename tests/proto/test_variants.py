"""Fields replaced, layers replaced and left out."""

from crnn.proto import pb
from crnn.proto.text import parse
from crnn.proto.variants import remove_layers, replace, replace_layers

NET = """
layer { name: "data" type: "Data" top: "x" include { phase: TRAIN } data_param { source: "a" batch_size: 2 } }
layer { name: "data" type: "Data" top: "x" include { phase: TEST } data_param { source: "b" batch_size: 3 } }
layer { name: "rnn" type: "SpatialRNN" bottom: "x" top: "h"
  spatial_rnn_param { num_output: 4 direction: "right" direction: "left"
    weight_filler { type: "gaussian" std: 2 } } }
layer { name: "relu" type: "ReLU" bottom: "h" top: "h" }
layer { name: "fc" type: "InnerProduct" bottom: "h" top: "y" }
"""


def net():
    return parse(NET, pb.NetParameter).message


def fields(text: str):
    return parse(text, pb.NetParameter).message.layer


def test_what_is_not_named_stays():
    message = net()
    change = 'layer { name: "rnn" spatial_rnn_param { direction: "up" weight_filler { std: 5 } } }'
    assert replace_layers(message, fields(change)) == []
    rnn = message.layer[2].spatial_rnn_param
    assert (rnn.num_output, rnn.weight_filler.type, rnn.weight_filler.std) == (4, "gaussian", 5)
    assert list(rnn.direction) == ["up"]  # a list is replaced as a whole
    assert list(message.layer[2].bottom) == ["x"]


def test_a_solvers_fields():
    solver = parse("base_lr: 0.1 stepvalue: 1 stepvalue: 2 max_iter: 9", pb.SolverParameter).message
    replace(solver, parse("stepvalue: 7 max_iter: 3", pb.SolverParameter).message)
    assert (list(solver.stepvalue), solver.max_iter) == ([7], 3)
    assert solver.HasField("base_lr")


def test_a_name_means_all_layers_of_it_and_include_one_of_them():
    message = net()
    replace_layers(message, fields('layer { name: "data" data_param { batch_size: 8 } }'))
    assert [layer.data_param.batch_size for layer in message.layer[:2]] == [8, 8]
    one = 'layer { name: "data" include { phase: TEST } data_param { source: "c" } }'
    replace_layers(message, fields(one))
    assert [layer.data_param.source for layer in message.layer[:2]] == ["a", "c"]


def test_layers_that_are_not_there_are_told():
    change = 'layer { name: "rmm" } layer { name: "fc" } layer { name: "fc9" }'
    assert replace_layers(net(), fields(change)) == [0, 2]


def test_a_layer_left_out_hands_its_bottom_on():
    message = net()
    assert remove_layers(message, ["rnn"]) == []
    assert [layer.name for layer in message.layer] == ["data", "data", "relu", "fc"]
    assert [(list(layer.bottom), list(layer.top)) for layer in message.layer[2:]] == [
        (["x"], ["x"]),
        (["x"], ["y"]),
    ]


def test_an_in_place_layer_left_out():
    message = net()
    remove_layers(message, ["relu"])
    assert list(message.layer[3].bottom) == ["h"]


def test_only_layers_of_one_bottom_and_top_can_be_left_out():
    assert remove_layers(net(), ["data", "nothing", "fc"]) == [0, 1]
