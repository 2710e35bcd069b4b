"""Layers of 2013 (V0) and 2014 (V1) in today's form.

Source: src/caffe/util/upgrade_proto.cpp; the functions named at the tables are Caffe's.
"""

import difflib
import warnings

from google.protobuf.message import Message

from crnn.proto import messages as pb
from crnn.proto.parser import Path, is_repeated

Problems = list[tuple[Path, str]]  # where, what; the upgrade adds to it

#: V0 type -> V1 type and the message its fields move to. Source: UpgradeV0LayerType, UpgradeV0LayerParameter.
_V0_TYPES = {
    "accuracy": ("ACCURACY", ""),
    "bnll": ("BNLL", ""),
    "concat": ("CONCAT", "concat_param"),
    "conv": ("CONVOLUTION", "convolution_param"),
    "data": ("DATA", "data_param"),
    "dropout": ("DROPOUT", "dropout_param"),
    "euclidean_loss": ("EUCLIDEAN_LOSS", ""),
    "flatten": ("FLATTEN", ""),
    "hdf5_data": ("HDF5_DATA", "hdf5_data_param"),
    "hdf5_output": ("HDF5_OUTPUT", "hdf5_output_param"),
    "im2col": ("IM2COL", ""),
    "images": ("IMAGE_DATA", "image_data_param"),
    "infogain_loss": ("INFOGAIN_LOSS", "infogain_loss_param"),
    "innerproduct": ("INNER_PRODUCT", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MULTINOMIAL_LOGISTIC_LOSS", ""),
    "pool": ("POOLING", "pooling_param"),
    "relu": ("RELU", ""),
    "sigmoid": ("SIGMOID", ""),
    "softmax": ("SOFTMAX", ""),
    "softmax_loss": ("SOFTMAX_LOSS", ""),
    "split": ("SPLIT", ""),
    "tanh": ("TANH", ""),
    "window_data": ("WINDOW_DATA", "window_data_param"),
}

#: V0 field -> its name in the typed message, and the V0 types that may have it.
_V0_FIELDS = {
    "num_output": ("num_output", ("conv", "innerproduct")),
    "biasterm": ("bias_term", ("conv", "innerproduct")),
    "weight_filler": ("weight_filler", ("conv", "innerproduct")),
    "bias_filler": ("bias_filler", ("conv", "innerproduct")),
    "pad": ("pad", ("conv", "pool")),
    "kernelsize": ("kernel_size", ("conv", "pool")),
    "group": ("group", ("conv",)),
    "stride": ("stride", ("conv", "pool")),
    "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)),
    "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)),
    "beta": ("beta", ("lrn",)),
    "k": ("k", ("lrn",)),
    "source": ("source", ("data", "hdf5_data", "images", "window_data", "infogain_loss")),
    "batchsize": ("batch_size", ("data", "hdf5_data", "images", "window_data")),
    "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)),
    "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)),
    "concat_dim": ("concat_dim", ("concat",)),
    "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)),
    "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)),
    "det_crop_mode": ("crop_mode", ("window_data",)),
}
_V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_V0_KEPT = ("name", "blobs", "blobs_lr", "weight_decay")

#: V1 types whose today's name is not their words joined. Source: UpgradeV1LayerType.
_V1_NAMES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "IM2COL": "Im2col",
    "LRN": "LRN",
    "MVN": "MVN",
    "RELU": "ReLU",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "TANH": "TanH",
}
#: V1 list -> the field of param[i] that its i-th entry becomes.
_V1_PARAM = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}
_V1_DATA = {"DATA": "data_param", "IMAGE_DATA": "image_data_param", "WINDOW_DATA": "window_data_param"}


def fold_v0_padding(net: Message, origins: list[Path], problems: Problems) -> None:
    """Drops V0's padding layers; the convolution or pooling that reads one takes its pad and its bottom."""
    maker = dict.fromkeys(net.input)  # blob name -> the connection that made it last
    for connection, origin in zip(net.layers, origins, strict=True):
        layer = connection.layer
        for j, bottom in enumerate(connection.bottom):
            if bottom not in maker:
                problems.append(
                    (origin, f"layer '{layer.name}' reads '{bottom}', which no layer before it makes")
                )
            padding = maker.get(bottom)
            if padding is None or padding.layer.type != "padding":
                continue
            if layer.type not in ("conv", "pool") or len(connection.bottom) != 1 or len(padding.bottom) != 1:
                problems.append(
                    (origin, f"layer '{layer.name}' reads the padding '{bottom}'; only conv and pool may")
                )
                continue
            layer.pad = padding.layer.pad
            connection.bottom[j] = padding.bottom[0]
        maker.update((top, connection) for top in connection.top)
    for i in reversed(range(len(net.layers))):
        if net.layers[i].layer.type == "padding":
            del net.layers[i], origins[i]


def v0_to_v1(connection: Message, origin: Path, problems: Problems) -> None:
    """Moves the flat fields of connection.layer to connection itself and its typed messages."""
    if not connection.HasField("layer"):
        return
    old = connection.layer
    if old.type not in _V0_TYPES:
        close = difflib.get_close_matches(old.type, _V0_TYPES, 1)
        cure = f"; did you mean '{close[0]}'?" if close else ""
        problems.append(
            (origin, f"layer '{old.name}' has the unknown type '{old.type}' for a V0 layer{cure}")
        )
        return
    type_name, typed = _V0_TYPES[old.type]
    connection.type = pb.V1LayerParameter.LayerType.Value(type_name)
    for field, value in old.ListFields():
        new_name, types = _V0_FIELDS.get(field.name, ("", ()))
        if old.type in types:
            _put(getattr(connection, typed), new_name, value)
        elif field.name in _V0_TRANSFORM:
            _put(connection.transform_param, _V0_TRANSFORM[field.name], value)
        elif field.name in _V0_KEPT or field.name == typed:
            _put(connection, field.name, value)
        elif field.name != "type":  # Caffe goes on too, calling the net not fully compatible
            warnings.warn(f"V0 layer '{old.name}': '{old.type}' has no '{field.name}'; ignored", stacklevel=2)
    connection.ClearField("layer")


def move_transform_fields(layer: Message) -> None:
    """Moves scale, mean_file, crop_size and mirror of a V1 data layer to its transform_param."""
    typed = _V1_DATA.get(pb.V1LayerParameter.LayerType.Name(layer.type))
    for name in _V0_TRANSFORM.values() if typed else ():
        if getattr(layer, typed).HasField(name):
            setattr(layer.transform_param, name, getattr(getattr(layer, typed), name))
            getattr(layer, typed).ClearField(name)


def v1_to_v2(old: Message, layer: Message) -> None:
    """Fills the LayerParameter `layer` from the V1LayerParameter `old`."""
    for field, value in old.ListFields():
        if field.name == "type":
            name = pb.V1LayerParameter.LayerType.Name(value)
            layer.type = _V1_NAMES.get(name, name.title().replace("_", ""))
        elif field.name in _V1_PARAM:
            for i, item in enumerate(value):
                param = layer.param[i] if i < len(layer.param) else layer.param.add()
                setattr(param, _V1_PARAM[field.name], item)
        elif field.name != "layer":  # one that V0 -> V1 has reported
            _put(layer, field.name, value)


def _put(message: Message, name: str, value) -> None:
    """Gives the field `name` of message a value; one value for a list is appended to it."""
    field = message.DESCRIPTOR.fields_by_name[name]
    if is_repeated(field):
        getattr(message, name).extend([value] if isinstance(value, int) else value)
    elif field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)
