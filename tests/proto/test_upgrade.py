"""Nets of 2013 and 2014, input fields, old BatchNorm and solver types, in today's form."""

import pytest

from crnn.proto import pb
from crnn.proto.text import PrototxtError, dump, parse
from crnn.proto.upgrade import read_net, read_solver, upgrade_net


def assert_upgrades(old, new):
    """old becomes new, from text and in place."""
    wanted = parse(new, pb.NetParameter).message
    assert dump(read_net(old).message) == dump(wanted)
    net = parse(old, pb.NetParameter).message
    upgrade_net(net)
    assert net == wanted


def v0(*layers):
    """A V0 net over the input `data`; a layer is (fields, bottom, top)."""
    text = 'name: "v0" input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
    for fields, bottom, top in layers:
        text += f'layers {{ layer {{ {fields} }} bottom: "{bottom}" top: "{top}" }}\n'
    return text


V0_INPUT = """name: "v0"
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: [1, 3, 8, 8] } } }
"""


def test_a_net_of_today_is_unchanged():
    text = 'layer { name: "a" type: "Data" top: "x" data_param { scale: 2 mirror: true } } state { level: 1 }'
    assert_upgrades(text, text)


# V0


V0_LAYERS = {
    'type: "conv" num_output: 4 kernelsize: 3 stride: 2 pad: 1 group: 2 biasterm: false': (
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2 bias_term: false }",
    ),
    'type: "innerproduct" num_output: 4 weight_filler { std: 1 } bias_filler { value: 2 }': (
        "InnerProduct",
        "inner_product_param { num_output: 4 weight_filler { std: 1 } bias_filler { value: 2 } }",
    ),
    'type: "pool" pool: AVE kernelsize: 3 stride: 2 pad: 1': (
        "Pooling",
        "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }",
    ),
    'type: "lrn" local_size: 3 alpha: 2 beta: 3 k: 4': (
        "LRN",
        "lrn_param { local_size: 3 alpha: 2 beta: 3 k: 4 }",
    ),
    'type: "dropout" dropout_ratio: 0.25': ("Dropout", "dropout_param { dropout_ratio: 0.25 }"),
    'type: "concat" concat_dim: 2': ("Concat", "concat_param { concat_dim: 2 }"),
    'type: "data" source: "db" batchsize: 2 rand_skip: 3 scale: 4 meanfile: "m" cropsize: 5 mirror: true': (
        "Data",
        'data_param { source: "db" batch_size: 2 rand_skip: 3 }'
        'transform_param { scale: 4 mean_file: "m" crop_size: 5 mirror: true }',
    ),
    'type: "images" source: "l" batchsize: 2 rand_skip: 3 shuffle_images: true new_height: 4': (
        "ImageData",
        'image_data_param { source: "l" batch_size: 2 rand_skip: 3 shuffle: true new_height: 4 }',
    ),
    'type: "window_data" source: "w" batchsize: 2 det_fg_threshold: 0.1 det_bg_threshold: 0.2 '
    'det_fg_fraction: 0.3 det_context_pad: 4 det_crop_mode: "square"': (
        "WindowData",
        'window_data_param { source: "w" batch_size: 2 fg_threshold: 0.1 bg_threshold: 0.2 '
        'fg_fraction: 0.3 context_pad: 4 crop_mode: "square" }',
    ),
    'type: "hdf5_data" source: "h" batchsize: 2': (
        "HDF5Data",
        'hdf5_data_param { source: "h" batch_size: 2 }',
    ),
    'type: "hdf5_output" hdf5_output_param { file_name: "h" }': (
        "HDF5Output",
        'hdf5_output_param { file_name: "h" }',
    ),
    'type: "infogain_loss" source: "i"': ("InfogainLoss", 'infogain_loss_param { source: "i" }'),
    'type: "softmax_loss"': ("SoftmaxWithLoss", ""),
    'type: "relu"': ("ReLU", ""),
}


@pytest.mark.parametrize("fields", V0_LAYERS, ids=lambda fields: V0_LAYERS[fields][0])
def test_v0_fields_move_to_the_typed_message(fields):
    type_name, typed = V0_LAYERS[fields]
    today = f'layer {{ name: "a" type: "{type_name}" bottom: "data" top: "a" {typed} }}'
    assert_upgrades(v0((f'name: "a" {fields}', "data", "a")), V0_INPUT + today)


def test_v0_rates_and_decays_become_params():
    old = v0(('name: "a" type: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0', "data", "a"))
    today = 'layer { name: "a" type: "Convolution" bottom: "data" top: "a" '
    today += "param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 } }"
    assert_upgrades(old, V0_INPUT + today)


def test_v0_blobs_are_kept():
    net = pb.NetParameter(layers=[pb.V1LayerParameter(layer=pb.V0LayerParameter(name="a", type="conv"))])
    net.layers[0].layer.blobs.add(data=[1, 2])
    upgrade_net(net)
    assert list(net.layer[0].blobs[0].data) == [1, 2]


def test_v0_padding_goes_to_every_reader():
    old = v0(
        ('name: "pad" type: "padding" pad: 2', "data", "padded"),
        ('name: "c" type: "conv" kernelsize: 3', "padded", "c"),
        ('name: "p" type: "pool" kernelsize: 3', "padded", "p"),
        ('name: "r" type: "relu"', "c", "c"),
    )
    today = """
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { pad: 2 kernel_size: 3 } }
layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { pad: 2 kernel_size: 3 } }
layer { name: "r" type: "ReLU" bottom: "c" top: "c" }"""
    assert_upgrades(old, V0_INPUT + today)


def test_v0_padding_is_for_convolution_and_pooling_only():
    old = v0(('name: "pad" type: "padding" pad: 2', "data", "a"), ('name: "r" type: "relu"', "a", "b"))
    with pytest.raises(
        PrototxtError, match="<text>:3:1: layer 'r' reads the padding 'a'; only conv and pool may"
    ):
        read_net(old)


def test_v0_padding_of_an_unknown_blob():
    with pytest.raises(PrototxtError, match="layer 'c' reads 'b', which no layer before it makes"):
        read_net(v0(('name: "c" type: "conv"', "b", "c")))


def test_v0_field_that_its_type_does_not_have_warns_as_in_caffe():
    with pytest.warns(UserWarning, match="V0 layer 'r': 'relu' has no 'kernelsize'; ignored"):
        read_net(v0(('name: "r" type: "relu" kernelsize: 3', "data", "r")))


def test_all_unknown_v0_types_are_reported_together():
    old = v0(('name: "a" type: "convolve"', "data", "a"), ('name: "b" type: "reul"', "a", "b"))
    with pytest.raises(PrototxtError) as error:
        read_net(old)
    assert error.value.problems == [
        "<text>:2:1: layer 'a' has the unknown type 'convolve' for a V0 layer; did you mean 'conv'?",
        "<text>:3:1: layer 'b' has the unknown type 'reul' for a V0 layer; did you mean 'relu'?",
    ]


# V1

V1_TYPES = """
ABSVAL=AbsVal ACCURACY=Accuracy ARGMAX=ArgMax BNLL=BNLL CONCAT=Concat
CONTRASTIVE_LOSS=ContrastiveLoss CONVOLUTION=Convolution DATA=Data DECONVOLUTION=Deconvolution
DROPOUT=Dropout DUMMY_DATA=DummyData ELTWISE=Eltwise EUCLIDEAN_LOSS=EuclideanLoss EXP=Exp
FLATTEN=Flatten HDF5_DATA=HDF5Data HDF5_OUTPUT=HDF5Output HINGE_LOSS=HingeLoss IM2COL=Im2col
IMAGE_DATA=ImageData INFOGAIN_LOSS=InfogainLoss INNER_PRODUCT=InnerProduct LRN=LRN MVN=MVN
MEMORY_DATA=MemoryData MULTINOMIAL_LOGISTIC_LOSS=MultinomialLogisticLoss POOLING=Pooling POWER=Power
RELU=ReLU SIGMOID=Sigmoid SIGMOID_CROSS_ENTROPY_LOSS=SigmoidCrossEntropyLoss SILENCE=Silence
SLICE=Slice SOFTMAX=Softmax SOFTMAX_LOSS=SoftmaxWithLoss SPLIT=Split TANH=TanH THRESHOLD=Threshold
WINDOW_DATA=WindowData
"""


def test_every_v1_type_has_its_name_of_today():
    names = dict(pair.split("=") for pair in V1_TYPES.split()) | {"NONE": ""}
    assert names.keys() == set(pb.V1LayerParameter.LayerType.keys())
    net = read_net("\n".join(f"layers {{ type: {old} }}" for old in names)).message
    assert [layer.type for layer in net.layer] == list(names.values())


def test_v1_param_lists_become_params():
    old = """layers { name: "a" type: INNER_PRODUCT bottom: "x" top: "y" loss_weight: 0.5
      param: "w" param: "" blob_share_mode: PERMISSIVE
      blobs_lr: 1 blobs_lr: 2 blobs_lr: 3 weight_decay: 0 }"""
    today = """layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" loss_weight: 0.5
      param { name: "w" share_mode: PERMISSIVE lr_mult: 1 decay_mult: 0 } param { name: "" lr_mult: 2 }
      param { lr_mult: 3 } }"""
    assert_upgrades(old, today)


def test_v1_messages_rules_and_blobs_are_kept():
    old = """layers { name: "a" type: CONVOLUTION include { phase: TRAIN } exclude { stage: "s" }
      blobs { num: 1 data: 2 } convolution_param { num_output: 3 } loss_param { ignore_label: 4 } }"""
    assert_upgrades(old, old.replace("layers", "layer").replace("CONVOLUTION", '"Convolution"'))


@pytest.mark.parametrize(
    ("old", "type_name", "typed"),
    [
        ("DATA", "Data", "data_param"),
        ("IMAGE_DATA", "ImageData", "image_data_param"),
        ("WINDOW_DATA", "WindowData", "window_data_param"),
    ],
)
def test_v1_transform_fields_move_to_transform_param(old, type_name, typed):
    fields = 'scale: 2 mean_file: "m" crop_size: 3 mirror: true'
    assert_upgrades(
        f'layers {{ type: {old} {typed} {{ source: "s" {fields} }} transform_param {{ mean_value: 4 }} }}',
        f'layer {{ type: "{type_name}" {typed} {{ source: "s" }} '
        f"transform_param {{ mean_value: 4 {fields} }} }}",
    )


def test_layer_and_layers_do_not_mix():
    with pytest.raises(PrototxtError, match="<text>:2:1: `layers` is the old form of `layer`"):
        read_net("layer { }\nlayers { }")


# Inputs, BatchNorm


def test_input_dims_become_a_layer():
    old = 'input: "a" input: "b" input_dim: [1, 2, 3, 4, 5, 6, 7, 8] layer { name: "l" }'
    today = """layer { name: "input" type: "Input" top: "a" top: "b"
      input_param { shape { dim: [1, 2, 3, 4] } shape { dim: [5, 6, 7, 8] } } } layer { name: "l" }"""
    assert_upgrades(old, today)


def test_input_shapes_become_a_layer():
    old = 'input: "a" input_shape { dim: 1 dim: 2 } layer { name: "l" }'
    today = """layer { name: "input" type: "Input" top: "a" input_param { shape { dim: [1, 2] } } }
      layer { name: "l" }"""
    assert_upgrades(old, today)


def test_inputs_without_shape_are_dropped_as_from_old_weight_files():
    assert_upgrades('input: "a" layer { name: "l" }', 'layer { name: "l" }')


def test_inputs_with_too_few_extents():
    with pytest.raises(PrototxtError, match=r"<text>:1:1: 1 input want 4 input_dim, got 3"):
        read_net('input: "a" input_dim: [1, 2, 3]\n')
    with pytest.raises(PrototxtError, match=r"<text>:1:1: 2 input want 2 input_shape, got 1"):
        read_net('input: "a" input: "b" input_shape { dim: 1 }\n')


@pytest.mark.parametrize(
    "dims", ["input_dim: [1, 2, 3, 4, 5]", "input_shape { dim: [1, 2, 3, 4] } input_shape { }"]
)
def test_surplus_extents_count_for_nothing(dims):
    today = 'layer { name: "input" type: "Input" top: "a" input_param { shape { dim: [1, 2, 3, 4] } } }'
    assert_upgrades(f'input: "a" {dims}\n', today)


def test_batch_norm_statistics_do_not_learn():
    old = """layer { type: "BatchNorm" param { lr_mult: 1 } param { name: "x" } param { } }
      layer { type: "BatchNorm" param { lr_mult: 1 } }"""
    today = """layer { type: "BatchNorm" param { lr_mult: 0 decay_mult: 0 }
        param { name: "x" lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 } }
      layer { type: "BatchNorm" param { lr_mult: 1 } }"""
    assert_upgrades(old, today)


# Where layers stood


def test_where_still_answers_after_the_upgrade():
    document = read_net(
        'input: "data"\ninput_dim: [1, 2, 3, 4]\n'
        'layers { layer { name: "pad" type: "padding" pad: 1 } bottom: "data" top: "p" }\n'
        'layers { layer { name: "c" type: "conv" }\n  bottom: "p" top: "c" }\n'
    )
    assert [layer.name for layer in document.message.layer] == ["input", "c"]
    assert document.where("layer", 0) == "<text>:1:1"
    assert document.where("layer", 1) == "<text>:4:1"
    assert document.where("layer", 1, "bottom", 0) == "<text>:5:3"
    assert document.where("layer", 1, "convolution_param", "pad") == "<text>:4:1"


def test_where_in_a_net_inside_a_solver():
    document = read_solver(
        'base_lr: 1\nnet_param {\n  input: "a" input_dim: [1, 2, 3, 4]\n  layer { name: "l" }\n}'
    )
    assert [layer.name for layer in document.message.net_param.layer] == ["input", "l"]
    assert document.where("net_param", "layer", 1, "name") == "<text>:4:11"


def test_binary_nets_name_all_obstacles():
    net = pb.NetParameter(input=["a"], input_dim=[1])
    net.layers.add(layer=pb.V0LayerParameter(name="x", type="y"), bottom=["a"])
    with pytest.raises(
        ValueError, match=r"layer 'x' has the unknown type 'y'.*; 1 input want 4 input_dim, got 1"
    ):
        upgrade_net(net)


# Solvers


@pytest.mark.parametrize("name", ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"])
def test_solver_type_becomes_type(name):
    solver = read_solver(f"solver_type: {name.upper()}\n").message
    assert solver.type == name
    assert not solver.HasField("solver_type")


def test_solver_type_and_type_do_not_mix():
    with pytest.raises(
        PrototxtError, match="<text>:2:1: solver_type is the old form of type; give one of them"
    ):
        read_solver('type: "SGD"\nsolver_type: SGD')


def test_snapshot_prefix(tmp_path):
    path = tmp_path / "quick.solver.prototxt"
    for text, prefix in [
        ("", tmp_path / "quick.solver"),
        ('snapshot_prefix: "runs/net"', "runs/net"),
        (f'snapshot_prefix: "{tmp_path}"', tmp_path / "quick.solver"),
    ]:
        path.write_text(text)
        assert read_solver(path).message.snapshot_prefix == str(prefix)
    assert not read_solver("base_lr: 1\n").message.HasField("snapshot_prefix")
