"""Parameters shared by name, their multipliers, and nets that share weights."""

import pytest
import torch

from crnn.net.net import Net
from crnn.proto.text import PrototxtError
from crnn.testing import assert_near


def two_products(first="", second="", outputs=(4, 4), bottoms=("data", "data")):
    """Two InnerProducts without bias of "data" [5, 4] and their difference as a loss."""
    layers = [
        f"""layer {{ name: "ip{i}" type: "InnerProduct" bottom: "{bottom}" top: "ip{i}" {param}
          inner_product_param {{ num_output: {n} bias_term: false weight_filler {{ type: "msra" }} }} }}"""
        for i, (param, n, bottom) in enumerate(zip((first, second), outputs, bottoms, strict=True), 1)
    ]
    return "\n".join(
        [
            'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 5 dim: 4 } } }',
            *layers,
            'layer { name: "loss" type: "EuclideanLoss" bottom: "ip1" bottom: "ip2" top: "loss" }',
        ]
    )


NAMED = 'param { name: "shared" }'


def backward(net, x):
    net(data=x)
    net.loss().backward()


def test_sharers_have_one_blob_and_no_difference():
    net = Net(two_products(NAMED, NAMED))
    assert net.layer("ip1").blobs[0] is net.layer("ip2").blobs[0]
    assert [(p.layer, p.index, p.name) for p in net.params] == [("ip1", 0, "shared")]
    assert len(list(net.parameters())) == 1
    assert net(data=torch.randn(5, 4))["loss"] == 0


def test_without_a_name_blobs_differ():
    net = Net(two_products())
    assert [p.layer for p in net.params] == ["ip1", "ip2"]
    assert net(data=torch.randn(5, 4))["loss"] > 0


def test_the_gradient_of_a_shared_blob_is_the_sum_of_the_sharers():
    x = torch.randn(5, 4)
    shared = Net(two_products(NAMED, NAMED, bottoms=("data", "ip1")))
    apart = Net(two_products(bottoms=("data", "ip1")))
    for layer in ("ip1", "ip2"):
        apart.layer(layer).blobs[0].data = shared.layer("ip1").blobs[0].data.clone()
    backward(shared, x)
    backward(apart, x)
    want = apart.layer("ip1").blobs[0].grad + apart.layer("ip2").blobs[0].grad
    assert_near(shared.params[0].parameter.grad, want, 2e-6)


def test_strict_sharing_compares_shapes_permissive_counts():
    transposed = two_products(NAMED, NAMED, (2, 4), ("data", "ip1")).replace('"EuclideanLoss"', '"Concat"')
    with pytest.raises(
        PrototxtError, match=r"blob 0 \[4, 2\] cannot share param 'shared' of layer 'ip1', \[2, 4\]"
    ):
        Net(transposed)
    permissive = 'param { name: "shared" share_mode: PERMISSIVE }'
    net = Net(transposed.replace(NAMED, permissive))
    mine, theirs = net.layer("ip2").blobs[0], net.layer("ip1").blobs[0]
    assert mine.shape == (4, 2) and theirs.shape == (2, 4)
    assert mine.data_ptr() == theirs.data_ptr()
    net(data=torch.randn(5, 4))["loss"].sum().backward()
    assert net.params[0].parameter.grad.shape == (2, 4)
    with torch.no_grad():
        net.params[0].parameter.zero_()
    assert net(data=torch.randn(5, 4))["loss"].abs().sum() == 0
    with pytest.raises(PrototxtError, match=r"blob 0 \[3, 2\] cannot share"):
        Net(two_products(NAMED, permissive, (2, 3), ("data", "ip1")))


def test_permissive_sharing_survives_a_change_of_dtype():
    permissive = 'param { name: "shared" share_mode: PERMISSIVE }'
    net = Net(
        two_products(NAMED, permissive, (2, 4), ("data", "ip1")).replace('"EuclideanLoss"', '"Concat"')
    ).double()
    assert net(data=torch.randn(5, 4))["loss"].dtype == torch.float64
    assert net.layer("ip2").blobs[0].data_ptr() == net.layer("ip1").blobs[0].data_ptr()


def test_multipliers_are_those_that_any_sharer_states():
    net = Net(two_products(NAMED, 'param { name: "shared" lr_mult: 2 decay_mult: 0 }'))
    assert (net.params[0].lr_mult, net.params[0].decay_mult) == (2, 0)
    net = Net(two_products('param { name: "shared" lr_mult: 3 }', NAMED))
    assert (net.params[0].lr_mult, net.params[0].decay_mult) == (3, 1)


def test_multipliers_that_disagree_are_a_problem():
    with pytest.raises(PrototxtError, match="param 'shared' has lr_mult 2 here and 3 in layer 'ip1'"):
        Net(two_products('param { name: "shared" lr_mult: 3 }', 'param { name: "shared" lr_mult: 2 }'))


def test_order_and_multipliers_of_params(simple):
    net = Net(simple("param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }"))
    assert [(p.layer, p.index, p.lr_mult, p.decay_mult) for p in net.params] == [
        ("fc", 0, 1, 1),
        ("fc", 1, 2, 0),
    ]
    assert [p.parameter is blob for p, blob in zip(net.params, net.layer("fc").blobs, strict=True)] == [
        True
    ] * 2


def test_lr_mult_zero_stops_the_gradient_of_that_blob(simple):
    net = Net(simple("param { lr_mult: 0 }"))
    net(torch.randn(4, 3), torch.randn(4, 2))
    net.loss().backward()
    weight, bias = net.layer("fc").blobs
    assert weight.grad is None and bias.grad is not None


def test_a_test_net_uses_the_train_nets_blobs(simple):
    train, test = Net(simple()), Net(simple(), phase="TEST")
    test.share_weights(train)
    with torch.no_grad():
        train.layer("fc").blobs[0].fill_(7)
    assert test.layer("fc").blobs[0] is train.layer("fc").blobs[0]
    assert test.params[0].parameter is train.params[0].parameter


def test_nets_that_share_must_fit(simple):
    other = Net(simple().replace("num_output: 2", "num_output: 3").replace("dim: 4 dim: 2", "dim: 4 dim: 3"))
    with pytest.raises(
        ValueError, match=r"layer 'fc' has blobs \[\(2, 3\), \(2,\)\], but \[\(3, 3\), \(3,\)\]"
    ):
        Net(simple()).share_weights(other)


def test_a_convolution_may_own_what_another_shape_shares():
    net = Net(
        """layer { name: "x" type: "Input" top: "x" top: "v"
          input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } shape { dim: 2 dim: 12 } } }
        layer { name: "conv" type: "Convolution" bottom: "x" top: "c" param { name: "w" }
          convolution_param { num_output: 2 kernel_size: 2 bias_term: false } }
        layer { name: "fc" type: "InnerProduct" bottom: "v" top: "f"
          param { name: "w" share_mode: PERMISSIVE }
          inner_product_param { num_output: 2 bias_term: false } }"""
    )
    v = torch.randn(2, 12)
    f = net(torch.randn(2, 3, 4, 4), v)["f"]
    weight = net.layer("conv").blobs[0]
    torch.testing.assert_close(f, v @ weight.reshape(2, 12).T)
    f.sum().backward()
    assert weight.grad.shape == weight.shape
