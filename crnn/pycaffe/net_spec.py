"""Nets written as Python expressions. Caffe: python/caffe/net_spec.py.

n = caffe.NetSpec()
n.data = L.Input(shape=dict(dim=[1, 3, 8, 8]))
n.conv = L.Convolution(n.data, num_output=4, kernel_size=3, weight_filler=dict(type="xavier"))
n.pool = L.Pooling(n.conv, pool=P.Pooling.MAX, kernel_size=2, stride=2)
open("net.prototxt", "w").write(str(n.to_proto()))
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping

from crnn.proto import pb

#: Layer type -> the field of LayerParameter with its parameters: "Convolution" -> "convolution_param".
FIELDS = {
    field.message_type.name.removesuffix("Parameter"): field.name
    for field in pb.LayerParameter.DESCRIPTOR.fields
    if field.name.endswith("_param")
}


class Top:
    """An output of a layer: `n`-th top of `fn`."""

    def __init__(self, fn: "Function", n: int):
        self.fn, self.n = fn, n

    def to_proto(self):
        """The NetParameter of all that this top needs, with names made up."""
        return to_proto(self)


class Function:
    """A layer: its type, the Tops that it reads, its parameters.

    ntop: the number of its tops (default 1).    in_place: its tops have its bottoms' names.
    """

    def __init__(self, type_name: str, inputs, params: dict):
        for i, top in enumerate(inputs):
            if not isinstance(top, Top):
                raise TypeError(f"{type_name} input {i} is not a Top (type is {type(top)})")
        self.type_name, self.inputs, self.params = type_name, inputs, dict(params)
        self.ntop = self.params.pop("ntop", 1)
        self.in_place = self.params.pop("in_place", False)
        self.tops = tuple(Top(self, n) for n in range(self.ntop))


class _Writer:
    """Writes layers, each after those that it reads, and names what has no name: type and number."""

    def __init__(self, names: dict[Top, str]):
        self.names, self.counts = dict(names), Counter()
        self.layers: OrderedDict[Function, object] = OrderedDict()

    def net(self):
        net = pb.NetParameter()
        net.layer.extend(self.layers.values())
        return net

    def layer(self, fn: Function):
        # With a stack of its own: a net may be deeper than Python's recursion goes.
        waiting = [fn]
        while waiting:
            fn = waiting[-1]
            missing = [top.fn for top in fn.inputs if top.fn not in self.layers]
            if missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if fn not in self.layers:
                self.layers[fn] = self.message(fn)

    def message(self, fn: Function):
        message = pb.LayerParameter(type=fn.type_name)
        message.bottom.extend(self.layers[top.fn].top[top.n] for top in fn.inputs)
        message.top.extend(message.bottom if fn.in_place else [self.name(top) for top in fn.tops])
        message.name = self.name(fn.tops[0]) if fn.tops else self.automatic(fn)
        for key, value in fn.params.items():
            field = FIELDS.get(fn.type_name)
            own = field is not None and key in getattr(message, field).DESCRIPTOR.fields_by_name
            target = getattr(message, field) if own and not key.endswith("param") else message
            try:
                assign_proto(target, key, value)
            except (AttributeError, TypeError, ValueError) as error:
                raise type(error)(
                    f"layer {message.name!r} ({fn.type_name}), {key}={value!r}: {error}"
                ) from error
        return message

    def name(self, top: Top) -> str:
        if top not in self.names:
            self.names[top] = self.automatic(top.fn)
        return self.names[top]

    def automatic(self, fn: Function) -> str:
        self.counts[fn.type_name] += 1
        return f"{fn.type_name}{self.counts[fn.type_name]}"


def to_proto(*tops: Top):
    """The NetParameter of all that the tops need, with names made up: Convolution1, Pooling1, ..."""
    writer = _Writer({})
    for top in tops:
        writer.layer(top.fn)
    return writer.net()


def assign_proto(message, name: str, value) -> None:
    """Sets a field: a dict is a message, a list a repeated field, one value stands for a list of one."""
    field = message.DESCRIPTOR.fields_by_name.get(name)
    if field is None:
        raise AttributeError(f"{message.DESCRIPTOR.name} has no field {name!r}")
    target = getattr(message, name)
    if hasattr(target, "extend"):
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, Mapping):
                added = target.add()
                for key, inner in item.items():
                    assign_proto(added, key, inner)
            else:
                target.append(item)
    elif isinstance(value, Mapping):
        target.SetInParent()
        for key, inner in value.items():
            assign_proto(target, key, inner)
    elif isinstance(value, type(target)) and hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)


class NetSpec:
    """Tops by name: what is assigned to it gets that name as blob and as layer."""

    def __init__(self):
        super().__setattr__("tops", OrderedDict())

    def __setattr__(self, name, value):
        self.tops[name] = value

    def __getattr__(self, name):
        if name.startswith("__") or name not in self.tops:
            raise AttributeError(f"the NetSpec has no top {name!r}")
        return self.tops[name]

    def __setitem__(self, name, value):
        self.tops[name] = value

    def __getitem__(self, name):
        return self.tops[name]

    def __delitem__(self, name):
        del self.tops[name]

    def keys(self):
        return list(self.tops)

    def vals(self):
        return list(self.tops.values())

    def update(self, others) -> None:
        self.tops.update(others)

    def items(self):
        return list(self.tops.items())

    def to_proto(self):
        """The NetParameter of all that the assigned tops need."""
        names = {top: name for name, top in self.tops.items() if isinstance(top, Top)}
        writer = _Writer(names)
        for name, top in self.tops.items():
            fn = top.fn if isinstance(top, Top) else top
            writer.layer(fn)
            if not fn.tops:
                writer.layers[fn].name = name
        return writer.net()


class Layers:
    """L.Convolution(bottom, num_output=4, ...): the layer's Top; for ntop > 1 a tuple, for 0 its Function."""

    def __getattr__(self, type_name: str):
        def layer(*bottoms, **params):
            fn = Function(type_name, bottoms, params)
            if not fn.tops:
                return fn
            return fn.tops if fn.ntop > 1 else fn.tops[0]

        return layer


class Parameters:
    """P.Pooling.MAX: the number of an enum's value."""

    def __getattr__(self, name: str):
        return getattr(pb, f"{name}Parameter")


layers = Layers()
params = Parameters()
