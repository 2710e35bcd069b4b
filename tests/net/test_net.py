"""Net as a module: blobs in and out, losses, gradients that stop, devices and dtypes."""

import copy

import numpy as np
import pytest
import torch

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.net.net import Net
from crnn.testing import assert_near


def test_outputs_by_name_from_blobs_by_keyword_or_position(simple):
    net = Net(simple())
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    loss = net(data=x, target=y)["loss"]
    assert net(x, target=y) == net(x, y) == {"loss": loss}
    weight, bias = net.layer("fc").blobs
    assert_near(net.blobs["fc"], x @ weight.T + bias, 2e-6)
    assert_near(loss, ((net.blobs["fc"] - y) ** 2).sum() / 8, 2e-6)


def test_any_batch_size_goes(simple):
    net = Net(simple())
    assert net(torch.randn(9, 3), torch.randn(9, 2))["loss"].isfinite()
    assert net(torch.zeros(0, 3), torch.zeros(0, 2))["loss"] == 0


def test_arrays_are_placed_in_the_nets_dtype(simple):
    net = Net(simple()).double()
    assert net(np.zeros((4, 3), np.float32), torch.zeros(4, 2))["loss"].dtype == torch.float64
    bare = Net('layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }')
    assert bare.double()()["x"].dtype == torch.float64


def test_labels_keep_their_dtype():
    net = Net(
        """layer { name: "x" type: "Input" top: "x" top: "y"
          input_param { shape { dim: 2 dim: 4 } shape { dim: 2 } } }
        layer { name: "l" type: "SoftmaxWithLoss" bottom: "x" bottom: "y" top: "l" }"""
    ).bfloat16()
    net(torch.zeros(2, 4), torch.tensor([3.0, 1]))
    assert (net.blobs["x"].dtype, net.blobs["y"].dtype) == (torch.bfloat16, torch.float32)
    net(torch.zeros(2, 4), torch.tensor([3, 1]))
    assert net.blobs["y"].dtype == torch.int64
    with pytest.raises(
        ValueError, match=r"layer 'l' \(SoftmaxWithLoss\): label 4 is not one of the 4 classes 0 to 3"
    ):
        net(torch.zeros(2, 4), torch.tensor([3, 4]))


@pytest.mark.parametrize(
    ("args", "blobs", "message"),
    [
        ((), {}, r"layer 'data' \(Input\): has no data of its own: call net\(data=\.\.\.\)"),
        ((1, 2, 3), {}, r"has 2 inputs \['data', 'target'\], got 3"),
        ((), {"fc": torch.zeros(4, 2)}, r"cannot be given 'fc'; its inputs are \['data', 'target'\]"),
        ((torch.zeros(4),), {}, r"blob 'data' is \[4, 3\] in the net, got \[4\]"),
        (
            (torch.zeros(4, 5), torch.zeros(4, 2)),
            {},
            r"layer 'fc' \(InnerProduct\): has weights for 3 inputs",
        ),
    ],
)
def test_wrong_inputs(simple, args, blobs, message):
    with pytest.raises(ValueError, match=message):
        Net(simple())(*args, **blobs)


@pytest.fixture
def data_net(tmp_path):
    with LmdbWriter(tmp_path / "lmdb") as writer:
        for label in range(3):
            writer.put(f"{label:08d}".encode(), encode(np.full((1, 2, 2), label, np.uint8), label))
    return f"""
    layer {{ name: "d" type: "Data" top: "data" top: "label"
      data_param {{ source: "{tmp_path}/lmdb" backend: LMDB batch_size: 2 }} }}
    layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
      inner_product_param {{ num_output: 3 }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
    """


def test_a_data_layer_gives_the_batches(data_net):
    net = Net(data_net)
    assert net.shapes["data"] == (2, 1, 2, 2)
    labels = [(net(), net.blobs["label"].tolist())[1] for _ in range(3)]
    assert labels == [[0, 1], [2, 0], [1, 2]]


def test_given_blobs_skip_the_data_layer(data_net):
    net = Net(data_net)
    net(data=torch.zeros(5, 1, 2, 2), label=torch.zeros(5))
    assert net.blobs["data"].shape[0] == 5
    net()
    assert net.blobs["label"].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"\['data'\] replace layer 'd', which also makes \['label'\]"):
        net(data=torch.zeros(5, 1, 2, 2))


LOSSES = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 4 dim: 3 }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "fc" {}
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "x" top: "loss" {} }}
"""


def loss_and_gradient(net, x):
    net(x)
    loss = net.loss()
    loss.backward()
    return loss.detach(), net.layer("fc").blobs[0].grad


@pytest.mark.parametrize("weight", [1, 0, 0.25, -3])
def test_a_loss_weight_scales_the_loss_and_its_gradients(weight):
    plain, weighted = Net(LOSSES.format("", "")), Net(LOSSES.format("", f"loss_weight: {weight}"))
    weighted.load_state_dict(plain.state_dict())
    x = torch.randn(4, 3)
    loss, gradient = loss_and_gradient(plain, x)
    assert plain.loss_weights == {"loss": 1}
    if weight:
        scaled_loss, scaled = loss_and_gradient(weighted, x)
        assert_near(scaled_loss, weight * loss, 2e-6)
        assert_near(scaled, weight * gradient, 2e-6)
    else:
        assert weighted.loss_weights == {}
        with pytest.raises(ValueError, match="has no loss"):
            weighted.loss()


def test_a_loss_weight_on_a_blob_in_the_middle_adds_its_sum():
    both = Net(LOSSES.format("loss_weight: 2", "loss_weight: 3"))
    x = torch.randn(4, 3)
    outputs = both(x)
    assert both.loss_weights == {"fc": 2, "loss": 3}
    assert_near(both.loss(), 3 * outputs["loss"] + 2 * both.blobs["fc"].sum(), 2e-6)


BRANCHES = """
force_backward: {force}
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 4 dim: 3 }} }} }}
layer {{ name: "t" type: "Input" top: "t" input_param {{ shape {{ dim: 4 dim: 3 }} }} }}
layer {{ name: "below" type: "InnerProduct" bottom: "x" top: "below"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" }} }} }}
layer {{ name: "a" type: "InnerProduct" bottom: "below" top: "a" {a}
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" }} }} }}
layer {{ name: "b" type: "InnerProduct" bottom: "below" top: "b" {b}
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" }} }} }}
layer {{ name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" {sum} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "sum" bottom: "t" top: "loss" }}
"""


def branches(force="false", a="", b="", sum=""):
    torch.manual_seed(0)
    net = Net(BRANCHES.format(force=force, a=a, b=b, sum=sum))
    net(*torch.randn(2, 4, 3))
    net.loss().backward()
    return net


def grad(net, layer, index=0):
    return net.layer(layer).blobs[index].grad


def test_propagate_down_false_stops_the_gradient_into_that_bottom_only():
    whole, cut_a, cut_b = branches(), branches(a="propagate_down: false"), branches(b="propagate_down: false")
    assert_near(grad(cut_a, "below") + grad(cut_b, "below"), grad(whole, "below"), 2e-6)
    for net in (cut_a, cut_b):
        assert grad(net, "a").equal(grad(whole, "a")) and grad(net, "b").equal(grad(whole, "b"))
    cut = branches(sum="propagate_down: true propagate_down: false")
    assert grad(cut, "b") is None
    assert grad(cut, "a").equal(grad(whole, "a"))
    assert grad(cut, "below").equal(grad(cut_b, "below"))


def test_force_backward_gives_the_inputs_a_gradient():
    assert branches().blobs["x"].grad is None
    net = branches(force="true")
    residual = (net.blobs["sum"] - net.blobs["t"]) / 4
    assert_near(net.blobs["t"].grad, -residual, 2e-6)
    weights = net.layer("a").blobs[0] + net.layer("b").blobs[0]
    assert_near(net.blobs["x"].grad, residual @ weights @ net.layer("below").blobs[0], 2e-6)


def test_the_caller_may_ask_for_the_gradient_of_an_input(simple):
    x = torch.randn(4, 3, requires_grad=True)
    net = Net(simple())
    net(x, torch.zeros(4, 2))
    net.loss().backward()
    assert x.grad.abs().sum() > 0


def test_summary_shows_layers_shapes_parameters_and_who_learns():
    net = Net(BRANCHES.format(force="false", a="propagate_down: false", b="propagate_down: false", sum=""))
    assert net.summary().splitlines() == [
        "net '', TRAIN: 36 parameters, 36 of them learned",
        "layer  type           tops          parameters  backward",
        "x      Input          x [4, 3]",
        "t      Input          t [4, 3]",
        "below  InnerProduct   below [4, 3]  12",
        "a      InnerProduct   a [4, 3]      12          yes",
        "b      InnerProduct   b [4, 3]      12          yes",
        "sum    Eltwise        sum [4, 3]                yes",
        "loss   EuclideanLoss  loss []                   yes",
        "outputs: loss",
    ]
    assert repr(net) == net.summary()


def test_what_torch_says_of_a_layer_gets_its_name(monkeypatch):
    net = Net(
        """input: "x" input_dim: 1 input_dim: 3 input_dim: 9 input_dim: 9
        layer { name: "conv1" type: "Convolution" bottom: "x" top: "y"
          convolution_param { num_output: 2 kernel_size: 5 } }"""
    )
    with pytest.raises(RuntimeError, match=r"layer 'conv1' \(Convolution\): .*[Kk]ernel size"):
        net(torch.zeros(1, 3, 4, 4))

    def full(x):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(net.layers[-1], "forward", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"^no room$"):  # a kind with a meaning stays what it is
        net(torch.zeros(1, 3, 9, 9))


def test_a_layer_by_name(simple):
    net = Net(simple())
    assert net.layer("fc").type == "InnerProduct"
    with pytest.raises(KeyError, match="net 'simple' has no layer 'fd'"):
        net.layer("fd")


def test_force_backward_overrides_propagate_down():
    net = Net(BRANCHES.format(force="true", a="propagate_down: false", b="propagate_down: false", sum=""))
    assert all(passes for node in net.nodes for passes in node.passes_gradient)


@pytest.mark.parametrize(
    "shapes, layer, given, message",
    [
        (
            [(4, 3), (4, 3)],
            'type: "Eltwise" bottom: "a" bottom: "b" top: "y"',
            [(4, 3), (1, 3)],
            "bottoms of one shape",
        ),
        (
            [(4, 3)],
            'type: "Scale" bottom: "a" top: "y"',
            [(4, 1)],
            r"scale \[3\] does not fit the bottom \[4, 1\]",
        ),
        (
            [(4, 3)],
            'type: "Bias" bottom: "a" top: "y"',
            [(4, 1)],
            r"bias \[3\] does not fit the bottom \[4, 1\]",
        ),
        (
            [(4, 3), (4,)],
            'type: "Filter" bottom: "a" bottom: "b" top: "y"',
            [(4, 3), (2,)],
            r"needs a selector \[N\]",
        ),
        (
            [(4, 3)],
            'type: "Slice" bottom: "a" top: "y" top: "z" slice_param { axis: 0 }',
            [(5, 3)],
            r"2 tops do not divide axis 0 of the bottom \[5, 3\]",
        ),
        (
            [(4, 9)],
            'type: "Slice" bottom: "a" top: "y" top: "z" slice_param { slice_point: 3 }',
            [(4, 2)],
            "needs 1 rising slice_points between 0 and 2",
        ),
        (
            [(4, 2), (4, 2), (4,)],
            'type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "c" top: "y"',
            [(4, 2), (4, 2), (1,)],
            "needs bottoms",
        ),
    ],
)
def test_blobs_of_other_shapes_are_refused_as_at_the_start(shapes, layer, given, message):
    """Where Caffe's Reshape would end the process; none is broadcast."""
    tops = " ".join(f'top: "{name}"' for name in "abc"[: len(shapes)])
    dims = " ".join("shape { " + " ".join(f"dim: {d}" for d in shape) + " }" for shape in shapes)
    net = Net(
        f'layer {{ name: "x" type: "Input" {tops} input_param {{ {dims} }} }} layer {{ name: "it" {layer} }}'
    )
    net(*map(torch.zeros, shapes))
    with pytest.raises(ValueError, match=f"layer 'it' .*{message}"):
        net(*map(torch.zeros, given))


INPUTS = """layer { name: "x" type: "Input" top: "x" top: "l"
  input_param { shape { dim: 1 dim: 400 } shape { dim: 1 dim: 1 } } }
"""


def test_integers_become_numbers_of_the_net_unless_they_count_classes():
    net = Net(
        INPUTS
        + """layer { name: "s" type: "Reduction" bottom: "x" top: "s" reduction_param { operation: SUMSQ } }
        layer { name: "a" type: "Accuracy" bottom: "x" bottom: "l" top: "a" }"""
    )
    x = torch.zeros(1, 400, dtype=torch.uint8)
    x[0, :2] = torch.tensor([200, 10])
    assert net(x, torch.zeros(1, 1, dtype=torch.uint8))["s"] == 40100
    assert net.blobs["x"].dtype == torch.float32 and net.blobs["l"].dtype == torch.uint8


def test_labels_keep_their_dtype_on_their_way_to_a_loss():
    """bfloat16 has no 301, float16 no 2999."""
    net = Net(
        INPUTS
        + """layer { name: "f" type: "Flatten" bottom: "l" top: "f" }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "x" bottom: "f" top: "loss" }"""
    )
    x = torch.zeros(1, 400)
    x[0, 301] = 30
    assert net.bfloat16()(x, torch.tensor([[301.0]]))["loss"] == 0


def test_features_that_come_with_labels_are_cast():
    net = Net(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }
        layer { name: "cut" type: "Slice" bottom: "x" top: "a" top: "l" slice_param { slice_point: 4 } }
        layer { name: "fc" type: "InnerProduct" bottom: "a" top: "fc" inner_product_param { num_output: 3 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "l" top: "loss" }"""
    )
    assert net.bfloat16()(torch.zeros(2, 5))["loss"].isfinite()


def test_what_is_silenced_is_cast_all_the_same():
    net = Net(
        INPUTS
        + """layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
          inner_product_param { num_output: 3 } }
        layer { name: "quiet" type: "Silence" bottom: "x" bottom: "l" }"""
    )
    assert net.bfloat16()(torch.zeros(1, 400), torch.zeros(1, 1))["fc"].dtype == torch.bfloat16


def test_a_loss_without_a_top_counts():
    """As the nets of 2014 have it: Caffe makes a top that is no output."""
    net = Net(
        INPUTS
        + """layer { name: "one" type: "SoftmaxWithLoss" bottom: "x" bottom: "l" }
        layer { name: "two" type: "SoftmaxWithLoss" bottom: "x" bottom: "l" }"""
    )
    assert net(torch.zeros(1, 400), torch.zeros(1, 1)) == {} and net.outputs == []
    assert net.loss().item() == pytest.approx(2 * np.log(400), rel=1e-6)
    assert list(net.loss_weights) == ["(automatic)", "(automatic 2)"]


def test_a_net_can_be_copied_after_a_forward(simple):
    net = Net(simple())
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    loss = net(x, y)["loss"]
    other = copy.deepcopy(net)
    assert other.blobs == {} and net.blobs["loss"] is loss
    with torch.no_grad():
        net.layer("fc").blobs[0].zero_()
    assert other(x, y)["loss"] == loss
