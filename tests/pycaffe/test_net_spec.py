"""Nets as Python expressions."""

import pytest
from google.protobuf import text_format

import crnn.pycaffe as caffe
from crnn.proto import pb
from crnn.pycaffe import layers as L
from crnn.pycaffe import params as P


def parsed(text):
    return text_format.Parse(text, pb.NetParameter())


def test_a_top_gets_the_name_it_is_assigned_to():
    n = caffe.NetSpec()
    n.data, n.label = L.Data(
        batch_size=4,
        backend=P.Data.LMDB,
        source="x",
        ntop=2,
        transform_param={"scale": 0.5, "mean_value": [1, 2]},
    )
    n.conv = L.Convolution(
        n.data, kernel_size=3, num_output=2, weight_filler={"type": "xavier"}, param={"lr_mult": 2}
    )
    n.pool = L.Pooling(n.conv, kernel_size=2, pool=P.Pooling.AVE)
    n["loss/1"] = L.SoftmaxWithLoss(n.pool, n.label, loss_weight=2, loss_param={"ignore_label": 1})
    assert n.to_proto() == parsed("""
      layer { name: "data" type: "Data" top: "data" top: "label"
        transform_param { scale: 0.5 mean_value: 1 mean_value: 2 }
        data_param { source: "x" batch_size: 4 backend: LMDB } }
      layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 2 }
        convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
      layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: AVE kernel_size: 2 } }
      layer { name: "loss/1" type: "SoftmaxWithLoss" bottom: "pool" bottom: "label" top: "loss/1"
        loss_weight: 2 loss_param { ignore_label: 1 } }""")


def test_what_has_no_name_is_numbered_by_its_type():
    x, y = L.DummyData(shape=[{"dim": [2, 3]}, {"dim": [2]}], ntop=2)
    hidden = L.ReLU(L.InnerProduct(x, num_output=2), in_place=True)
    loss = L.SoftmaxWithLoss(L.InnerProduct(hidden, num_output=2), y)
    for proto in (loss.to_proto(), caffe.to_proto(hidden, loss)):
        assert [(layer.name, list(layer.bottom), list(layer.top)) for layer in proto.layer] == [
            ("DummyData1", [], ["DummyData1", "DummyData2"]),
            ("InnerProduct1", ["DummyData1"], ["InnerProduct1"]),
            ("ReLU1", ["InnerProduct1"], ["InnerProduct1"]),
            ("InnerProduct2", ["InnerProduct1"], ["InnerProduct2"]),
            ("SoftmaxWithLoss1", ["InnerProduct2", "DummyData2"], ["SoftmaxWithLoss1"]),
        ]


def test_a_layer_without_tops_can_be_assigned_too():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": 3})
    n.hush = L.Silence(n.data, ntop=0)
    assert [layer.name for layer in n.to_proto().layer] == ["data", "hush"]


def test_a_spec_is_a_mapping_of_its_tops():
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 2]})
    n.update({"out": L.ReLU(n.data)})
    assert n.keys() == ["data", "out"] and n["out"] is n.out
    del n["out"]
    with pytest.raises(AttributeError, match="no top 'out'"):
        n.out  # noqa: B018


def test_our_own_layers_are_named_the_same_way():
    top = L.SpatialRNN(L.Input(shape={"dim": [1, 2, 3, 3]}), num_output=4, direction=["right", "left"])
    assert list(top.to_proto().layer[1].spatial_rnn_param.direction) == ["right", "left"]


def test_a_net_thousands_of_layers_deep_is_written():
    top = L.Input(shape={"dim": 1})
    for _ in range(3000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 3001


def test_the_text_is_a_net(tmp_path):
    n = caffe.NetSpec()
    n.data = L.Input(shape={"dim": [1, 3]})
    n.ip = L.InnerProduct(n.data, num_output=2)
    (tmp_path / "net.prototxt").write_text(str(n.to_proto()))
    assert list(caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).blobs) == ["data", "ip"]


def test_what_is_no_top_is_refused():
    with pytest.raises(TypeError, match=r"^ReLU input 0 is not a Top \(type is <class 'tuple'>\)$"):
        L.ReLU(L.Input(shape={"dim": 1}, ntop=2))


def test_an_unknown_field_names_the_layer():
    with pytest.raises(
        AttributeError, match=r"layer 'Convolution1' \(Convolution\), kernal_size=3.*no field"
    ):
        L.Convolution(L.Input(shape={"dim": 1}), kernal_size=3).to_proto()
