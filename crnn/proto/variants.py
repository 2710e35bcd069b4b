"""A text with some fields replaced: how one net becomes the rows of a table without copies of its file."""

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
