"""pycaffe's Net: how it is made, what it tells, what its calls take and give."""

import numpy as np
import pytest
import torch

import crnn.pycaffe as caffe
from crnn import PrototxtError

from .conftest import SPLIT_NET

CLASSES = """
input: "data" input_shape { dim: 2 dim: 1 dim: 4 dim: 4 }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def net(make_net):
    return make_net(CLASSES, caffe.TEST)


def test_a_net_names_its_parts(net):
    assert list(net.blobs) == ["data", "conv", "fc", "prob"]
    assert {name: [blob.data.shape for blob in blobs] for name, blobs in net.params.items()} == {
        "conv": [(2, 1, 3, 3), (2,)],
        "fc": [(3, 8), (3,)],
    }
    assert net._layer_names == ["input", "conv", "fc", "prob"]
    assert [layer.type for layer in net.layers] == ["Input", "Convolution", "InnerProduct", "Softmax"]
    assert net.layer_dict["fc"] is net.layers[2]
    assert net.layers[2].blobs[0].data is not None
    assert (net.inputs, net.outputs) == (["data"], ["prob"])
    assert net.top_names["conv"] == ["conv"] and net.bottom_names["fc"] == ["conv"]
    blob = net.blobs["fc"]
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (2, 3, 1, 1, 6)


def test_what_pycaffe_underscores_is_there_too(net):
    """As scripts walk a net: net._blob_names[i] for i in net._bottom_ids(layer)."""
    assert net._blob_names == list(net.blobs) and net._blobs == list(net.blobs.values())
    for number, name in enumerate(net._layer_names):
        assert [net._blob_names[i] for i in net._bottom_ids(number)] == net.bottom_names[name]
        assert [net._blob_names[i] for i in net._top_ids(number)] == net.top_names[name]
    assert [net._blob_names[i] for i in net._inputs] == net.inputs
    assert [net._blob_names[i] for i in net._outputs] == net.outputs
    assert len(net._blob_loss_weights) == len(net.blobs)


def test_weights_come_by_keyword_or_as_of_old_before_the_phase(net, tmp_path):
    model, path = str(tmp_path / "a.caffemodel"), str(tmp_path / "net.prototxt")
    net.save(model)
    for other in (caffe.Net(path, model, caffe.TEST), caffe.Net(path, caffe.TEST, weights=model)):
        np.testing.assert_array_equal(other.params["fc"][0].data, net.params["fc"][0].data)


def test_level_and_stages_choose_layers(make_net):
    text = CLASSES + 'layer { name: "s" type: "Silence" bottom: "conv" include { stage: "x" min_level: 1 } }'
    assert "s" not in make_net(text).layer_dict
    assert "s" in make_net(text, level=1, stages=["x"]).layer_dict


def test_weights_go_to_hdf5_and_back(net, tmp_path):
    net.save_hdf5(tmp_path / "a.caffemodel.h5")
    want = net.params["conv"][0].data.copy()
    net.params["conv"][0].data[...] = 0
    net.load_hdf5(tmp_path / "a.caffemodel.h5")
    np.testing.assert_array_equal(net.params["conv"][0].data, want)
    net.params["conv"][0].data[...] = 0
    net.copy_from(tmp_path / "a.caffemodel.h5")
    np.testing.assert_array_equal(net.params["conv"][0].data, want)


def test_hdf5_weights_of_another_shape_are_refused_whole(net, make_net, tmp_path):
    net.save_hdf5(tmp_path / "a.h5")
    other = make_net(CLASSES.replace("num_output: 3", "num_output: 4"), caffe.TEST)
    before = other.params["conv"][0].data.copy()
    other.params["conv"][0].data[...] = before + 1
    with pytest.raises(ValueError, match=r"layer 'fc': blob 0 is \[4, 8\], in the file \[3, 8\]"):
        other.load_hdf5(tmp_path / "a.h5")
    np.testing.assert_array_equal(other.params["conv"][0].data, before + 1)


def test_forward_takes_inputs_and_gives_outputs_and_what_else_is_asked_for(net):
    out = net.forward(data=np.ones((2, 1, 4, 4)), blobs=["conv"])
    assert sorted(out) == ["conv", "prob"]
    np.testing.assert_allclose(out["prob"].sum(1), 1, rtol=1e-6)
    assert sorted(net.forward(start="conv", end="fc")) == ["fc"]


def test_forward_all_takes_any_number_of_rows(net):
    rows = np.random.RandomState(1).rand(5, 1, 4, 4).astype(np.float32)
    out = net.forward_all(data=rows, blobs=["fc"])
    assert out["prob"].shape == (5, 3) and out["fc"].shape == (5, 3)
    np.testing.assert_array_equal(net.forward(data=rows[2:4])["prob"], out["prob"][2:4])


def test_forward_backward_all_gives_the_diffs_of_all_rows(make_net):
    net = make_net("force_backward: true" + CLASSES, caffe.TEST)
    random = np.random.RandomState(1)
    rows, slopes = random.rand(3, 1, 4, 4), random.rand(3, 3)
    values, diffs = net.forward_backward_all(data=rows, prob=slopes)
    assert values["prob"].shape == (3, 3) and diffs["data"].shape == (3, 1, 4, 4)
    net.forward(data=rows[:2])
    np.testing.assert_array_equal(net.backward(prob=slopes[:2])["data"], diffs["data"][:2])


def test_reshape_tells_all_shapes_without_running(net):
    net.blobs["fc"].data[...] = 3
    net.blobs["data"].reshape(1, 1, 4, 4)
    net.reshape()
    assert [blob.shape for blob in net.blobs.values()] == [(1, 1, 4, 4), (1, 2, 2, 2), (1, 3), (1, 3)]
    assert (net.blobs["fc"].data == 3).all()


def test_a_map_that_an_inner_product_cannot_take_is_refused(net):
    net.blobs["data"].reshape(1, 1, 6, 6)
    with pytest.raises(
        ValueError, match=r"layer 'fc' \(InnerProduct\).*need a blob \[3, 32\], it has \[3, 8\]"
    ):
        net.reshape()


def test_callbacks_see_every_layer_before_and_after_it(net):
    seen = []
    net.before_forward(lambda i: seen.append(("before", i)))
    net.after_forward(lambda i: seen.append(("after", i)))
    net.forward(start="conv", end="fc")
    assert seen == [("before", 1), ("after", 1), ("before", 2), ("after", 2)]


def test_memory_data_takes_arrays(make_net):
    net = make_net(
        'layer { name: "m" type: "MemoryData" top: "x" top: "y" '
        "memory_data_param { batch_size: 2 channels: 1 height: 1 width: 2 } }"
    )
    net.set_input_arrays(np.arange(8).reshape(4, 1, 1, 2), np.arange(4))
    net.forward()
    net.forward()
    np.testing.assert_array_equal(net.blobs["x"].data.ravel(), [4, 5, 6, 7])
    np.testing.assert_array_equal(net.blobs["y"].data.ravel(), [2, 3])


def test_constant_dummy_data_can_be_overwritten_and_others_are_drawn_anew(make_net):
    net = make_net(
        'layer { name: "d" type: "DummyData" top: "a" top: "b" dummy_data_param { shape { dim: 2 } '
        'data_filler { value: 3 } data_filler { type: "uniform" min: 1 max: 2 } } }'
    )
    assert (net.blobs["a"].data == 3).all()
    net.blobs["a"].data[...] = 7
    net.blobs["b"].data[...] = 0
    net.forward()
    assert (net.blobs["a"].data == 7).all()
    assert (net.blobs["b"].data >= 1).all()


def test_a_loss_weight_goes_to_the_first_blob_of_a_split(make_net):
    text = SPLIT_NET.replace('top: "double"', 'top: "double" loss_weight: 2')
    net = make_net(text + 'layer { name: "s" type: "Silence" bottom: "double" }')
    weights = {name: weight for name, weight in net.blob_loss_weights.items() if weight}
    assert weights == {"double_double_0_split_0": 2}
    assert (net.blobs["double_double_0_split_0"].diff == 2).all()


def test_problems_of_a_net_are_told_with_their_places(tmp_path):
    path = tmp_path / "bad.prototxt"
    path.write_text(SPLIT_NET + 'layer { name: "x" type: "ReLU" bottom: "dubble" top: "x" }\n')
    with pytest.raises(PrototxtError, match=r"bad.prototxt:8:\d+: .*did you mean 'double'"):
        caffe.Net(str(path), caffe.TEST)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: caffe.Net("net.prototxt"), "needs a phase"),
        (lambda net: net.forward(start="nowhere"), "no layer 'nowhere'"),
        (lambda net: net.forward(image=np.zeros(1)), r"inputs are \['data'\], got \['image'\]"),
        (lambda net: net.forward(data=np.zeros((3, 1, 4, 4))), r"got \[3, 1, 4, 4\]; reshape the blob first"),
        (lambda net: net.blobs["data"].reshape(-1, 3), "whole numbers"),
        (lambda net: net.set_input_arrays(np.zeros(1), np.zeros(1)), "MemoryData layer, not Input"),
    ],
)
def test_misuse_is_one_sentence(net, call, words):
    with pytest.raises(ValueError, match=words):
        call(net)


def test_a_missing_file_is_named():
    with pytest.raises(OSError, match=r"nowhere.prototxt"):
        caffe.Net("nowhere.prototxt", caffe.TEST)


@pytest.mark.skipif(torch.cuda.is_available(), reason="runs on a machine without a GPU")
def test_gpu_mode_without_a_gpu_is_one_sentence():
    with pytest.raises(ValueError, match="torch sees no GPU here"):
        caffe.set_mode_gpu()
    with pytest.raises(ValueError, match="there is no GPU 0"):
        caffe.set_device(0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="runs on a machine with a GPU")
def test_a_net_on_the_gpu_computes_what_it_does_on_the_cpu(net, tmp_path):
    net.save(tmp_path / "a.caffemodel")
    rows = np.random.RandomState(1).rand(2, 1, 4, 4)
    want = net.forward(data=rows)["prob"]
    caffe.set_mode_gpu()
    try:
        other = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST, weights=str(tmp_path / "a.caffemodel"))
        np.testing.assert_allclose(other.forward(data=rows)["prob"], want, rtol=1e-4)
    finally:
        caffe.set_mode_cpu()


def test_seeded_fillers_repeat(make_net, tmp_path):
    make_net(CLASSES.replace("kernel_size: 3", 'kernel_size: 3 weight_filler { type: "xavier" }'))
    drawn = []
    for _ in range(2):
        caffe.set_random_seed(4)
        drawn.append(caffe.Net(str(tmp_path / "net.prototxt"), caffe.TRAIN).params["conv"][0].data)
    np.testing.assert_array_equal(*drawn)
    assert drawn[0].any()
