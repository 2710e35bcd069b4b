"""The arrays of a net are its memory: what is written is used, what is computed appears."""

import numpy as np
import pytest

import crnn.pycaffe as caffe

from .conftest import SPLIT_NET

pytestmark = pytest.mark.usefixtures("memory")

LOSS = """
input: "data" input_shape { dim: 2 dim: 3 } input: "goal" input_shape { dim: 2 dim: 2 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 2 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "goal" top: "loss" }
"""


def linear(net, x):
    weight, bias = net.params["ip"]
    return x @ weight.data.T + bias.data


def test_what_is_written_into_data_is_what_forward_sees(make_net):
    net, x = make_net(LOSS), np.arange(6, dtype=np.float32).reshape(2, 3)
    net.blobs["data"].data[...] = x
    net.forward()
    np.testing.assert_allclose(net.blobs["ip"].data, linear(net, x), rtol=1e-6)
    net.blobs["data"].data[1] += 1
    net.params["ip"][1].data[0] = 7
    net.forward()
    np.testing.assert_allclose(net.blobs["ip"].data, linear(net, x + np.array([[0], [1]])), rtol=1e-6)


def test_an_array_from_before_shows_what_forward_computed(make_net, memory):
    net = make_net(LOSS)
    before = net.blobs["ip"].data
    net.blobs["data"].data[...] = 1
    net.forward()
    after = net.blobs["ip"].data  # from a GPU it is this that brings the values
    assert np.shares_memory(before, after)
    np.testing.assert_array_equal(before, after)
    assert before.any()


def test_forward_from_the_middle_takes_what_stands_there(make_net):
    net = make_net(LOSS)
    net.forward()
    net.blobs["ip"].data[...] = [[1, 2], [3, 4]]
    out = net.forward(start="loss")
    assert out["loss"] == (1 + 4 + 9 + 16) / 4


def test_backward_takes_data_as_they_are_now(make_net):
    net = make_net(LOSS)
    net.blobs["data"].data[...] = 1
    net.forward()
    x = np.float32([[1, 2, 3], [4, 5, 6]])
    net.blobs["data"].data[...] = x
    net.backward()
    np.testing.assert_allclose(net.params["ip"][0].diff, net.blobs["ip"].diff.T @ x, rtol=1e-6)


def test_backward_takes_a_label_that_is_written_after_forward(make_net):
    """As scripts do that ask for the gradient of the class they have just read."""
    net = make_net(
        """force_backward: true
        input: "data" input_shape { dim: 2 dim: 3 } input: "label" input_shape { dim: 2 }
        layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
          inner_product_param { num_output: 4 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss"
          propagate_down: true propagate_down: false }"""
    )
    net.blobs["data"].data[...] = [[1, 2, 3], [-1, 0, 1]]
    for classes in ([0, 1], [3, 2], [3, 0]):
        net.forward()
        net.blobs["label"].data[...] = classes
        net.backward()
        scores = np.exp(net.blobs["ip"].data.astype(float))
        p = scores / scores.sum(1, keepdims=True)
        want = (p - np.eye(4)[classes]) / 2 @ net.params["ip"][0].data
        np.testing.assert_allclose(net.blobs["data"].diff, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("early", [False, True])
def test_backward_takes_a_convolutions_bottom_as_it_is_now(make_net, early):
    net = make_net(
        """input: "data" input_shape { dim: 1 dim: 1 dim: 3 dim: 3 }
        layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
          convolution_param { num_output: 1 kernel_size: 2 } }
        layer { name: "sum" type: "Reduction" bottom: "conv" top: "sum" loss_weight: 1 }"""
    )
    if early:
        net.blobs["data"].data[...] = 1
    net.forward()
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    net.blobs["data"].data[0, 0] = x
    net.backward()
    want = [[x[i : i + 2, j : j + 2].sum() for j in range(2)] for i in range(2)]
    np.testing.assert_allclose(net.params["conv"][0].diff[0, 0], want)


def test_a_dropouts_mask_stays_whatever_is_written_after_forward(make_net):
    net = make_net(
        """force_backward: true input: "data" input_shape { dim: 1 dim: 64 }
        layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" }
        layer { name: "sum" type: "Reduction" bottom: "drop" top: "sum" loss_weight: 1 }"""
    )
    net.blobs["data"].data[...] = 1
    net.forward()
    kept = net.blobs["drop"].data.copy()
    net.blobs["data"].data[...] = 2
    net.backward()
    np.testing.assert_array_equal(net.blobs["data"].diff, kept)


def test_a_reshaped_blobs_diff_is_its_bottoms(make_net):
    net = make_net(
        """force_backward: true input: "data" input_shape { dim: 2 dim: 4 }
        layer { name: "power" type: "Power" bottom: "data" top: "power" power_param { scale: 2 } }
        layer { name: "reshape" type: "Reshape" bottom: "power" top: "reshape"
          reshape_param { shape { dim: 4 dim: 2 } } }"""
    )
    net.forward()
    net.blobs["reshape"].diff[...] = 3
    net.backward(start="power")
    assert (net.blobs["data"].diff == 6).all()
    net.blobs["reshape"].diff[...] = 4
    net.backward()
    assert (net.blobs["data"].diff == 8).all() and (net.blobs["power"].diff == 4).all()


def test_backward_needs_no_forward(make_net):
    net = make_net(SPLIT_NET)
    net.blobs["ip"].diff[...] = [[1, 0, 0], [0, 1, 0]]
    net.blobs["ip"].data[...] = 1
    net.backward(start="ip", end="ip")
    np.testing.assert_array_equal(net.blobs["data"].diff, net.params["ip"][0].data[:2])


def test_a_diff_that_is_written_is_where_backward_begins(make_net):
    net = make_net(LOSS)
    net.blobs["data"].data[...] = 1
    net.forward()
    assert net.blobs["loss"].diff == 1  # the loss weight
    net.backward()
    once = net.blobs["ip"].diff.copy()
    net.blobs["loss"].diff[...] = 3
    net.backward()
    np.testing.assert_allclose(net.blobs["ip"].diff, 3 * once, rtol=1e-6)


def test_params_diffs_add_up_until_they_are_cleared_and_blobs_diffs_do_not(make_net):
    net = make_net(LOSS)
    net.blobs["data"].data[...] = 1
    net.forward()
    net.backward()
    once, held = net.params["ip"][0].diff.copy(), net.params["ip"][0].diff
    blob = net.blobs["ip"].diff.copy()
    net.backward()
    np.testing.assert_allclose(net.params["ip"][0].diff, 2 * once, rtol=1e-6)
    np.testing.assert_array_equal(net.blobs["ip"].diff, blob)
    net.clear_param_diffs()
    assert not net.params["ip"][0].diff.any()
    assert np.shares_memory(held, net.params["ip"][0].diff)


def test_a_blob_read_twice_gets_caffes_split_whose_diffs_add_up(make_net):
    net = make_net(SPLIT_NET)
    first, second = "ip_relu_0_split_0", "ip_relu_0_split_1"
    assert list(net.blobs) == ["data", "ip", first, second, "double", "sum"]
    assert net.layer_dict["ip_relu_0_split"].type == "Split"
    net.blobs["data"].data[...] = 1
    net.forward()
    net.blobs["sum"].diff[...] = 1
    net.backward(end="ip_relu_0_split")
    assert (net.blobs[first].diff == 2).all()  # the first reader is `double`
    assert (net.blobs[second].diff == 1).all()
    assert (net.blobs["ip"].diff == 3).all()


def test_the_tops_of_a_split_are_its_bottom(make_net):
    net = make_net(SPLIT_NET)
    net.blobs["ip"].data[...] = 5
    assert (net.blobs["ip_relu_0_split_1"].data == 5).all()
    net.forward(start="double")
    assert (net.blobs["sum"].data == 15).all()


def test_a_layer_in_place_has_the_gradient_of_what_it_was_given(make_net):
    net = make_net(SPLIT_NET)
    net.params["ip"][0].data[...] = np.eye(3)
    net.params["ip"][1].data[...] = 0
    net.blobs["data"].data[...] = [[-1, 2, 3], [1, -2, 3]]
    net.forward()
    np.testing.assert_array_equal(net.blobs["ip"].data, [[0, 2, 3], [1, 0, 3]])
    net.blobs["sum"].diff[...] = 1
    net.backward()
    np.testing.assert_array_equal(net.blobs["data"].diff, [[0, 3, 3], [3, 0, 3]])


def test_shared_nets_have_one_memory_of_values_and_two_of_diffs(make_net):
    net, other = make_net(LOSS), make_net(LOSS)
    net.params["ip"][0].data[...] = 1
    other.share_with(net)
    assert (other.params["ip"][0].data == 1).all()
    net.params["ip"][0].data[...] = 2
    other.blobs["data"].data[...] = 1
    other.forward()
    np.testing.assert_allclose(other.blobs["ip"].data, 6 + other.params["ip"][1].data + np.zeros((2, 1)))
    other.backward()
    assert other.params["ip"][0].diff.any()
    assert not net.params["ip"][0].diff.any()


def test_layers_that_share_a_param_by_name_share_values_and_diffs(make_net):
    shared = 'param { name: "w" } inner_product_param { num_output: 3 bias_term: false }'
    net = make_net(
        f"""input: "data" input_shape {{ dim: 2 dim: 3 }}
        layer {{ name: "a" type: "InnerProduct" bottom: "data" top: "a" {shared} }}
        layer {{ name: "b" type: "InnerProduct" bottom: "a" top: "b" {shared} }}"""
    )
    net.params["a"][0].data[...] = np.eye(3) * 2
    assert (net.params["b"][0].data == np.eye(3) * 2).all()
    net.params["b"][0].diff[...] = 4
    assert (net.params["a"][0].diff == 4).all()


def test_reshape_keeps_the_memory_where_it_is_large_enough(make_net):
    blob = make_net(LOSS).blobs["data"]
    blob.data[...] = np.arange(6).reshape(2, 3)
    blob.diff[...] = 1
    blob.reshape(3, 2)
    np.testing.assert_array_equal(blob.data, [[0, 1], [2, 3], [4, 5]])
    assert (blob.diff == 1).all()
    blob.reshape(1, 3)
    np.testing.assert_array_equal(blob.data, [[0, 1, 2]])
    blob.reshape(2, 3)
    np.testing.assert_array_equal(blob.data, np.arange(6).reshape(2, 3))
    blob.reshape(3, 3)
    assert blob.data.shape == (3, 3) and not blob.data.any()


def test_a_batch_of_another_size_runs_after_a_reshape(make_net):
    net = make_net(LOSS)
    for batch in (5, 1):
        net.blobs["data"].reshape(batch, 3)
        net.blobs["goal"].reshape(batch, 2)
        net.blobs["data"].data[...] = 1
        net.forward()
        assert net.blobs["ip"].data.shape == (batch, 2)
        net.backward()
        assert net.blobs["ip"].diff.shape == (batch, 2)


def test_weights_written_from_a_file_do_not_unsettle_the_next_backward(make_net, tmp_path):
    net = make_net(LOSS)
    net.save(tmp_path / "a.caffemodel")
    net.blobs["data"].data[...] = 1
    net.forward()
    net.copy_from(tmp_path / "a.caffemodel")
    net.backward()
    assert net.params["ip"][0].diff.any()


def test_arrays_outlive_their_net(make_net):
    net = make_net(LOSS)
    data, weight = net.blobs["data"].data, net.params["ip"][0].data
    want = weight.copy()
    del net
    assert data.shape == (2, 3)
    np.testing.assert_array_equal(weight, want)


def test_in_test_phase_without_loss_nothing_runs_backward(make_net):
    net = make_net(SPLIT_NET.replace("force_backward: true", ""), caffe.TEST)
    net.forward()
    net.blobs["sum"].diff[...] = 1
    net.backward()
    assert not net.blobs["ip"].diff.any()
    assert not net.params["ip"][0].diff.any()
