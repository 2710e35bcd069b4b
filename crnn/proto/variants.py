"""A text with some fields replaced or layers left out: one net file as the many rows of a table."""

from google.protobuf.message import Message

from crnn.proto.parser import is_repeated


def replace(target: Message, fields: Message) -> None:
    """Puts every field that `fields` has in place of the target's.

    A message within is gone into, so that its other fields stay; a list is replaced as a whole.
    """
    for field, value in fields.ListFields():
        if is_repeated(field):
            target.ClearField(field.name)
            getattr(target, field.name).extend(value)
        elif field.message_type:
            getattr(target, field.name).SetInParent()
            replace(getattr(target, field.name), value)
        else:
            setattr(target, field.name, value)


def replace_layers(net: Message, layers) -> list[int]:
    """Replaces fields of the net's layers by those of `layers` of the same names.

    Of layers that share a name (the Data layers of both phases), one with `include` means only the layer
    with the same rules. Returns the indices in `layers` of those that the net does not have.
    """
    missing = []
    for i, fields in enumerate(layers):
        found = [layer for layer in net.layer if layer.name == fields.name]
        if fields.include:
            found = [layer for layer in found if list(layer.include) == list(fields.include)]
        for layer in found:
            replace(layer, fields)
        if not found:
            missing.append(i)
    return missing


def remove_layers(net: Message, names) -> list[int]:
    """Takes layers of one bottom and one top out of the net; what read a top reads the bottom instead.

    Returns the indices in `names` of those that the net does not have.
    """
    missing = []
    for i, name in enumerate(names):
        found = [j for j, layer in enumerate(net.layer) if layer.name == name]
        if not found or any(len(net.layer[j].bottom) != 1 or len(net.layer[j].top) != 1 for j in found):
            missing.append(i)
            continue
        for j in reversed(found):
            bottom, top = net.layer[j].bottom[0], net.layer[j].top[0]
            del net.layer[j]
            for layer in net.layer[j:]:
                layer.bottom[:] = [bottom if blob == top else blob for blob in layer.bottom]
                layer.top[:] = [bottom if blob == top else blob for blob in layer.top]  # in place
    return missing


#: layer type -> the parameter that says whether it has a bias beside its weights.
_WEIGHTED = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
    "Scale": "scale_param",
    "Embed": "embed_param",
}
_ONE_BLOB = ("Bias", "PReLU")
#: Types whose number of blobs their fields do not tell here.
_SEVERAL = ("HierarchicalRNN", "LSTM", "Parameter", "Python", "RNN", "ScaleRNN", "SpatialRNN")


def freeze(net: Message, blobs) -> list[int]:
    """Makes every layer that one of `blobs` is made by keep its weights: lr_mult 0.

    Returns the indices in `blobs` of those that no layer of the net makes. Raises ValueError for a layer
    whose number of blobs is not known, unless it has `param` entries of its own.
    """
    missing = []
    for i, blob in enumerate(blobs):
        if not any(blob in layer.top for layer in net.layer):
            missing.append(i)
        below = {blob}
        for layer in reversed(net.layer):
            if below.isdisjoint(layer.top):
                continue
            below.update(layer.bottom)
            if layer.type in _SEVERAL and not layer.param:
                raise ValueError(
                    f"layer {layer.name!r} ({layer.type}) is below {blob!r}: give it a "
                    "param { lr_mult: 0 } for each of its blobs"
                )
            if layer.type in _ONE_BLOB and not layer.param:
                layer.param.add()
            if layer.type in _WEIGHTED:
                count = 1 + getattr(layer, _WEIGHTED[layer.type]).bias_term
                while len(layer.param) < count:
                    layer.param.add()
            for param in layer.param:
                param.lr_mult = 0
    return missing
