"""Caffe's messages as classes: NetParameter, LayerParameter, Datum, ... and Phase with its TRAIN and TEST.

The classes come from a descriptor pool of our own, so another caffe.proto (pycaffe's, another tool's) may be
loaded in the same process. They are made from caffe.desc at import; there is no generated module. Import as
`from crnn.proto import pb`.
"""

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

_pool = descriptor_pool.DescriptorPool()


def _classes() -> dict:
    """Every message class and top-level enum value of caffe.desc, by name."""
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("caffe.desc").read_bytes())
    names = {}
    for file in files.file:
        _pool.Add(file)
        for message in file.message_type:
            descriptor = _pool.FindMessageTypeByName(f"{file.package}.{message.name}")
            names[message.name] = message_factory.GetMessageClass(descriptor)
            names[message.name].__module__ = __name__  # so that messages can be pickled
        for enum in file.enum_type:
            names[enum.name] = EnumTypeWrapper(_pool.FindEnumTypeByName(f"{file.package}.{enum.name}"))
            names.update((value.name, value.number) for value in enum.value)
    return names


globals().update(_classes())
