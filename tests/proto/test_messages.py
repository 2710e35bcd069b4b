"""caffe.proto: Caffe's wire format, our fields from 2000, a pool of its own."""

import pickle
import re

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from crnn.proto import compile as compiler
from crnn.proto import pb

# CAFFE.md section 1.1, the messages that weight files, records and nets are made of.
WIRE = {
    "BlobShape": "dim=1",
    "BlobProto": "shape=7 data=5 diff=6 double_data=8 double_diff=9 num=1 channels=2 height=3 width=4",
    "BlobProtoVector": "blobs=1",
    "Datum": "channels=1 height=2 width=3 data=4 label=5 float_data=6 encoded=7",
    "NetParameter": "name=1 layers=2 input=3 input_dim=4 force_backward=5 state=6 debug_info=7 "
    "input_shape=8 layer=100",
    "SolverState": "iter=1 learned_net=2 history=3 current_step=4",
    "ParamSpec": "name=1 share_mode=2 lr_mult=3 decay_mult=4",
    "SolverParameter": "train_net=1 test_net=2 test_iter=3 test_interval=4 base_lr=5 display=6 "
    "max_iter=7 lr_policy=8 gamma=9 power=10 momentum=11 weight_decay=12 "
    "stepsize=13 snapshot=14 snapshot_prefix=15 snapshot_diff=16 solver_mode=17 "
    "device_id=18 test_compute_loss=19 random_seed=20 train_net_param=21 "
    "test_net_param=22 debug_info=23 net=24 net_param=25 train_state=26 "
    "test_state=27 snapshot_after_train=28 regularization_type=29 solver_type=30 "
    "delta=31 test_initialization=32 average_loss=33 stepvalue=34 clip_gradients=35 "
    "iter_size=36 snapshot_format=37 rms_decay=38 momentum2=39 type=40 "
    "layer_wise_reduce=41 weights=42 window_update=2000 legacy_shared_decay=2001 "
    "restart_period=2002 restart_floor=2003 snapshot_keep=2004 precision=2005 compile=2006",
    "V1LayerParameter": "layer=1 bottom=2 top=3 name=4 type=5 blobs=6 blobs_lr=7 weight_decay=8 "
    "concat_param=9 convolution_param=10 data_param=11 dropout_param=12 "
    "hdf5_data_param=13 hdf5_output_param=14 image_data_param=15 "
    "infogain_loss_param=16 inner_product_param=17 lrn_param=18 pooling_param=19 "
    "window_data_param=20 power_param=21 memory_data_param=22 argmax_param=23 "
    "eltwise_param=24 threshold_param=25 dummy_data_param=26 accuracy_param=27 "
    "hinge_loss_param=29 relu_param=30 slice_param=31 include=32 exclude=33 "
    "mvn_param=34 loss_weight=35 transform_param=36 tanh_param=37 sigmoid_param=38 "
    "softmax_param=39 contrastive_loss_param=40 exp_param=41 loss_param=42 "
    "param=1001 blob_share_mode=1002",
}
#: What our own messages' names begin with.
OURS = (
    "SpatialRNNParameter",
    "HierarchicalRNNParameter",
    "ScaleRNNParameter",
    "ImagePyramidParameter",
    "Experiment",
    "SvmParameter",
    "PaperFigureParameter",
    "CrfParameter",
    "AnswersParameter",
    "DecodeParameter",
)
LAYER_PARAMS = """
transform loss accuracy argmax concat contrastive_loss convolution data dropout dummy_data eltwise
exp hdf5_data hdf5_output hinge_loss image_data infogain_loss inner_product lrn memory_data mvn
pooling power relu sigmoid softmax slice tanh threshold window_data python prelu spp reshape log
flatten reduction embed tile batch_norm elu bias scale input crop parameter recurrent swish clip
"""


def messages():
    return [value.DESCRIPTOR for value in vars(pb).values() if hasattr(value, "FromString")]


@pytest.mark.parametrize("name", WIRE)
def test_field_numbers_are_caffes(name):
    fields = getattr(pb, name).DESCRIPTOR.fields
    assert {f"{field.name}={field.number}" for field in fields} == set(WIRE[name].split())


def test_layer_params_are_numbered_from_100_in_caffes_order():
    fields = pb.LayerParameter.DESCRIPTOR.fields_by_number
    assert [fields[100 + i].name for i in range(49)] == [f"{name}_param" for name in LAYER_PARAMS.split()]


def test_every_field_below_2000_is_caffes_and_ours_are_above():
    ours = {f"{m.name}.{f.name}" for m in messages() for f in m.fields if f.number >= 2000}
    assert {name for name in ours if not name.startswith(OURS)} == {
        "LayerParameter.spatial_rnn_param",
        "LayerParameter.hierarchical_rnn_param",
        "LayerParameter.scale_rnn_param",
        "LayerParameter.image_pyramid_param",
        "SolverParameter.window_update",
        "SolverParameter.legacy_shared_decay",
        "SolverParameter.restart_period",
        "SolverParameter.restart_floor",
        "SolverParameter.snapshot_keep",
        "SolverParameter.precision",
        "SolverParameter.compile",
        "BatchNormParameter.sync",
        "ConvolutionParameter.same_pad",
        "TransformationParameter.train_views",
        "TransformationParameter.rotation",
        "TransformationParameter.scaling",
        "TransformationParameter.bad_image",
        "DataParameter.label_source",
    }
    whole = [m for m in messages() if m.name.startswith(OURS)]
    assert all(field.number >= 2000 for m in whole for field in m.fields)


def test_defaults():
    assert pb.BatchNormParameter().moving_average_fraction == pytest.approx(0.999)
    assert pb.SolverParameter().delta == pytest.approx(1e-8)
    assert pb.SolverParameter().snapshot_format == pb.SolverParameter.BINARYPROTO
    assert pb.LossParameter().normalization == pb.LossParameter.VALID
    assert pb.NetState().phase == pb.TEST
    rnn = pb.SpatialRNNParameter()
    assert (rnn.line_break, rnn.cell, rnn.combine, rnn.future_state) == (
        "carry_value",
        "relu",
        "sum",
        "cached",
    )
    assert (rnn.bias_term, rnn.project_input, rnn.share_input) == (True, True, False)


def test_floats_are_read_packed_and_not():
    packed = b"\x2a\x08\x00\x00\x80\x3f\x00\x00\x00\x40"
    one_by_one = b"\x2d\x00\x00\x80\x3f\x2d\x00\x00\x00\x40"
    for wire in (packed, one_by_one):
        assert list(pb.BlobProto.FromString(wire).data) == [1, 2]


def test_float_data_of_a_datum_is_written_unpacked_as_caffe_does():
    assert pb.Datum(float_data=[1, 2]).SerializeToString() == b"\x35\x00\x00\x80\x3f\x35\x00\x00\x00\x40"


def test_descriptor_file_is_current():
    pytest.importorskip(
        "grpc_tools", reason="runs where grpcio-tools is installed (pip install grpcio-tools)"
    )
    current = descriptor_pb2.FileDescriptorSet.FromString((compiler.FOLDER / "caffe.desc").read_bytes())
    assert descriptor_pb2.FileDescriptorSet.FromString(compiler.descriptor_set()) == current


def test_lives_beside_another_caffe_proto():
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    file.message_type.add(name="NetParameter").field.add(name="other", number=1, type=5, label=1)
    pool = descriptor_pool.Default()
    pool.Add(file)
    theirs = message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))
    assert theirs(other=3).other == 3
    assert pb.NetParameter(name="net").name == "net"
    assert "other" not in pb.NetParameter.DESCRIPTOR.fields_by_name


def test_messages_can_be_pickled():
    net = pb.NetParameter(name="net", layer=[pb.LayerParameter(name="a")])
    assert pickle.loads(pickle.dumps(net)) == net


def test_no_generated_module():
    source = (compiler.FOLDER / "caffe.proto").read_text()
    assert not list(compiler.FOLDER.glob("*_pb2.py"))
    assert set(re.findall(r"^message (\w+)", source, re.MULTILINE)) == {m.name for m in messages()}
