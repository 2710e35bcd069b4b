"""Which layers a phase, a level and stages let in."""

import pytest

from crnn.net.graph import is_included, net_state
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import PrototxtError, parse


def included(rules, phase=pb.TRAIN, stages=(), level=0, net=""):
    state = net_state(parse(net, pb.NetParameter).message, phase, stages, level)
    return is_included(state, parse(rules, pb.LayerParameter).message)


@pytest.mark.parametrize(
    ("rules", "state", "want"),
    [
        ("", {}, True),
        ("include { phase: TRAIN }", {}, True),
        ("include { phase: TEST }", {}, False),
        ("exclude { phase: TRAIN }", {}, False),
        ("exclude { phase: TEST }", {}, True),
        ("include { phase: TEST } include { phase: TRAIN }", {}, True),
        ("include { min_level: 2 }", {"level": 1}, False),
        ("include { min_level: 2 }", {"level": 2}, True),
        ("include { max_level: 2 }", {"level": 2}, True),
        ("include { max_level: 2 }", {"level": 3}, False),
        ("include { max_level: -1 }", {}, False),
        ("include { stage: 'a' }", {"stages": ["a", "b"]}, True),
        ("include { stage: 'a' stage: 'c' }", {"stages": ["a", "b"]}, False),
        ("include { stage: 'a' } include { stage: 'c' }", {"stages": ["a", "b"]}, True),
        ("include { not_stage: 'a' }", {"stages": ["a"]}, False),
        ("include { not_stage: 'a' }", {}, True),
        ("include { stage: 'a' not_stage: 'b' }", {"stages": ["a", "b"]}, False),
        ("include { phase: TRAIN min_level: 1 stage: 'a' }", {"stages": ["a"]}, False),
        ("include { phase: TRAIN min_level: 1 stage: 'a' }", {"stages": ["a"], "level": 1}, True),
        ("exclude { stage: 'a' }", {"stages": ["a"]}, False),
        ("exclude { stage: 'a' stage: 'b' }", {"stages": ["a"]}, True),
        ("include { stage: 'a' }", {"net": "state { stage: 'a' }"}, True),
        ("include { min_level: 2 }", {"net": "state { level: 2 }"}, False),  # the constructor's level is 0
        ("include { min_level: 2 }", {"net": "state { level: 2 }", "level": None}, True),
        ("include { min_level: 2 }", {"net": "state { level: 2 }", "level": 1}, False),
        ("include { phase: TEST }", {"net": "state { phase: TEST }"}, False),
    ],
)
def test_a_layer_is_in_if_a_rule_of_include_holds_and_none_of_exclude(rules, state, want):
    assert included(rules, **state) is want


def test_both_kinds_of_rules_are_a_problem():
    text = """layer { name: "a" type: "DummyData" top: "a" dummy_data_param { shape { dim: 1 } }
      include { phase: TRAIN } exclude { phase: TEST } }"""
    with pytest.raises(
        PrototxtError, match=r"^<text>:1:1: layer 'a' \(DummyData\): has include and exclude rules"
    ):
        Net(text)


ALL_IN_ONE = """
name: "all in one"
layer { name: "train-data" type: "DummyData" top: "data" top: "label"
  include { phase: TRAIN not_stage: "deploy" }
  dummy_data_param { shape { dim: 1 dim: 10 } shape { dim: 1 } } }
layer { name: "val-data" type: "DummyData" top: "data" top: "label"
  include { phase: TEST not_stage: "deploy" }
  dummy_data_param { shape { dim: 1 dim: 10 } shape { dim: 1 } } }
layer { name: "deploy-data" type: "Input" top: "data" include { stage: "deploy" }
  input_param { shape { dim: 1 dim: 10 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
  include { phase: TEST not_stage: "deploy" } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
  include { not_stage: "deploy" } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" include { stage: "deploy" } }
"""


@pytest.mark.parametrize(
    ("phase", "stages", "layers", "outputs"),
    [
        ("TRAIN", [], ["train-data", "ip", "loss"], ["loss"]),
        ("TEST", [], ["val-data", "ip", "accuracy", "loss"], ["accuracy", "loss"]),
        ("TEST", ["deploy"], ["deploy-data", "ip", "prob"], ["prob"]),
    ],
)
def test_one_file_for_training_validation_and_deployment(phase, stages, layers, outputs):
    net = Net(ALL_IN_ONE, phase=phase, stages=stages)
    assert [layer.name for layer in net.layers] == layers
    assert net.outputs == outputs


def test_a_layer_has_the_phase_of_its_net_unless_it_says_otherwise():
    text = """
    layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 } } }
    layer { name: "a" type: "Dropout" bottom: "x" top: "a" }
    layer { name: "b" type: "Dropout" bottom: "x" top: "b" phase: TEST }
    """
    net = Net(text, phase="TRAIN")
    assert [net.layer(name).train_phase for name in "ab"] == [True, False]
    with pytest.raises(ValueError, match="phase must be one of TRAIN, TEST, got 'VAL'"):
        Net(text, phase="VAL")
