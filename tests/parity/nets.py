"""Random nets, one layer type under test each: a strategy of hypothesis a type.

Inputs are distinct, evenly spaced values in random order, so that nothing lies on a tie or a kink.
"""

import math

import numpy as np
from hypothesis import strategies as st

from .both import Case, dims

CASES = {}  # layer type -> function of hypothesis's `draw` and a numpy generator, giving a Case


def layer_type(*names):
    def add(function):
        for name in names:
            CASES[name] = function
        return function

    return add


@st.composite
def case_of(draw, name: str) -> Case:
    """A random net for one layer type."""
    seed = draw(st.integers(0, 2**31))
    case = CASES[name](Draw(draw, np.random.default_rng(seed), name))
    case.seed = seed
    return case


class Draw:
    """What the cases draw from."""

    def __init__(self, draw, rng, name):
        self._draw, self.rng, self.name = draw, rng, name

    def of(self, *values):
        return self._draw(st.sampled_from(values))

    def whole(self, low, high):
        return self._draw(st.integers(low, high))

    def number(self, low, high):
        """Two decimals: exactly what the prototxt says."""
        return self._draw(st.integers(round(low * 100), round(high * 100))) / 100

    def shape(self, least=1, most=4, size=5):
        return tuple(self.whole(1, size) for _ in range(self.whole(least, most)))

    def axis(self, shape, first=0):
        """An axis, sometimes counted from the end."""
        axis = self.whole(first, len(shape) - 1)
        return axis if self.of(True, False) else axis - len(shape)

    def values(self, shape, low=-2.0, high=2.0):
        count = math.prod(shape)
        spaced = low + (high - low) * (self.rng.permutation(count) + 0.5) / max(count, 1)
        return spaced.astype(np.float32).reshape(shape)

    def labels(self, shape, classes):
        return self.rng.integers(classes, size=shape).astype(np.float32)

    def layer(self, bottoms="x", tops="y", text="", name=None):
        names = " ".join(
            f'{kind}: "{blob}"'
            for kind, blobs in (("bottom", bottoms), ("top", tops))
            for blob in blobs.split()
        )
        return f'layer {{ name: "l" type: "{name or self.name}" {names} {text} }}'

    def plain(self, shape, text="", top_shape=None, low=-2.0, high=2.0, **options):
        """x -> layer -> y, with a random gradient on y."""
        y = self.rng.normal(size=shape if top_shape is None else top_shape).astype(np.float32)
        return Case(self.layer(text=text), {"x": self.values(shape, low, high)}, {"y": y}, **options)

    def under_loss(self, text, inputs, tops, learned=(), **options):
        """A net without force_backward: `learned` inputs pass a Scale, tops end in a sum of squares.

        For layers that end Caffe's process when all their bottoms are to get gradients.
        """
        parts = [
            f'layer {{ name: "s_{n}" type: "Scale" bottom: "{n}" top: "{n}_" '
            "scale_param { axis: 0 num_axes: -1 } }"
            for n in learned
        ]
        ends = [
            f'layer {{ name: "r_{t}" type: "Reduction" bottom: "{t}" top: "r_{t}" loss_weight: 0.5 '
            "reduction_param { operation: SUMSQ } }"
            for t in tops
        ]
        return Case("\n".join([*parts, text, *ends]), inputs, force=False, **options)


ELEMENTWISE = {
    "AbsVal": lambda d: "",
    "BNLL": lambda d: "",
    "ELU": lambda d: f"elu_param {{ alpha: {d.number(0.1, 2)} }}",
    "Clip": lambda d: f"clip_param {{ min: {d.number(-1, 0)} max: {d.number(0.1, 1)} }}",
    "ReLU": lambda d: f"relu_param {{ negative_slope: {d.of(0, 0.1)} }}",
    "Sigmoid": lambda d: "",
    "Swish": lambda d: f"swish_param {{ beta: {d.number(0.5, 2)} }}",
    "TanH": lambda d: "",
    "Exp": lambda d: (
        f"exp_param {{ base: {d.of(-1, 2, 0.5)} scale: {d.number(-1, 1)} shift: {d.number(-1, 1)} }}"
    ),
}


@layer_type(*ELEMENTWISE)
def elementwise(d):
    return d.plain(d.shape(), ELEMENTWISE[d.name](d))


@layer_type("Log")
def log(d):
    text = f"log_param {{ base: {d.of(-1, 2, 10)} scale: {d.number(0.5, 2)} shift: {d.number(0.1, 1)} }}"
    return d.plain(d.shape(), text, low=0.1, high=3)


@layer_type("Power")
def power(d):
    text = (
        f"power_param {{ power: {d.of(0, 1, 2, 3, 0.5, -1)} scale: {d.of(0, 1, 0.5)} shift: {d.of(0.5, 1)} }}"
    )
    return d.plain(d.shape(), text, low=0.1, high=3)


@layer_type("Threshold")
def threshold(d):
    return d.plain(d.shape(), f"threshold_param {{ threshold: {d.number(-1, 1)} }}", backward=False)


@layer_type("PReLU")
def prelu(d):
    return d.plain(d.shape(2), f"prelu_param {{ channel_shared: {d.of('true', 'false')} }}")


@layer_type("Dropout")
def dropout(d):
    return d.plain(d.shape(), "dropout_param { dropout_ratio: 0.3 }", phase="TEST")


@layer_type("Softmax")
def softmax(d):
    shape = d.shape(2)
    return d.plain(shape, f"softmax_param {{ axis: {d.axis(shape)} }}")


def windows(d, axes, kernel=3):
    """(kernel, stride, pad, dilation) of each spatial axis, and their text."""
    numbers = [(d.whole(1, kernel), d.whole(1, 3), d.whole(0, 2), d.whole(1, 2)) for _ in range(axes)]
    names = ("kernel_size", "stride", "pad", "dilation")
    text = " ".join(f"{n}: {v}" for row in numbers for n, v in zip(names, row, strict=True))
    return numbers, text


@layer_type("Convolution", "Im2col")
def convolution(d):
    axes, group = d.of(1, 2, 2, 3), d.of(1, 1, 2)
    numbers, text = windows(d, axes)
    shape = (d.whole(1, 2), 2 * group, *(d.whole(5, 7) for _ in range(axes)))
    outputs = 2 * group
    if d.name == "Convolution":
        text += f" num_output: {outputs} group: {group} bias_term: {d.of('true', 'false')}"
    else:
        outputs = shape[1] * math.prod(k for k, *_ in numbers)
    out = [
        (size + 2 * p - (g * (k - 1) + 1)) // s + 1
        for size, (k, s, p, g) in zip(shape[2:], numbers, strict=True)
    ]
    return d.plain(shape, f"convolution_param {{ {text} }}", (shape[0], outputs, *out))


@layer_type("Deconvolution")
def deconvolution(d):
    axes, group = d.of(1, 2, 2, 3), d.of(1, 1, 2)
    numbers, text = windows(d, axes)
    shape = (d.whole(1, 2), 2 * group, *(d.whole(5, 6) for _ in range(axes)))
    text += f" num_output: {2 * group} group: {group} bias_term: {d.of('true', 'false')}"
    out = [
        s * (size - 1) + g * (k - 1) + 1 - 2 * p
        for size, (k, s, p, g) in zip(shape[2:], numbers, strict=True)
    ]
    return d.plain(shape, f"convolution_param {{ {text} }}", (shape[0], 2 * group, *out))


@layer_type("Pooling")
def pooling(d):
    kernel, stride, method = d.whole(1, 4), d.whole(1, 3), d.of("MAX", "AVE")
    pad = d.whole(0, min(2, kernel - 1))
    shape = (d.whole(1, 2), d.whole(1, 3), d.whole(4, 8), d.whole(4, 8))
    if stride > kernel:  # an empty last window: compared by hand in tests/layers/test_pooling.py
        stride = kernel
    text = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
    out = []
    for size in shape[2:]:
        n = -(-(size + 2 * pad - kernel) // stride) + 1
        out.append(n - 1 if pad and (n - 1) * stride >= size + pad else n)
    return d.plain(shape, f"pooling_param {{ {text} }}", (*shape[:2], *out))


@layer_type("SPP")
def spp(d):
    height, shape = d.whole(1, 3), (d.whole(1, 2), d.whole(1, 3), d.whole(7, 12), d.whole(7, 12))
    bins = sum(4**i for i in range(height))
    out = (*shape[:2], 1, 1) if height == 1 else (shape[0], shape[1] * bins)
    return d.plain(shape, f"spp_param {{ pyramid_height: {height} pool: {d.of('MAX', 'AVE')} }}", out)


@layer_type("LRN")
def lrn(d):
    text = f"local_size: {d.of(1, 3, 5)} alpha: {d.number(0.1, 2)} beta: {d.of(0.5, 0.75)}"
    shape = (d.whole(1, 2), d.whole(1, 7), d.whole(1, 5), d.whole(1, 5))
    region = d.of("ACROSS_CHANNELS", "WITHIN_CHANNEL")
    return d.plain(
        shape, f"lrn_param {{ {text} norm_region: {region} k: {d.of(1, 2) if 'ACR' in region else 1} }}"
    )


@layer_type("MVN")
def mvn(d):
    shape = (*d.shape(1, 2, 3), d.whole(2, 5), d.whole(2, 5))
    shape = shape if len(shape) == 4 else (1, *shape)
    text = f"across_channels: {d.of('true', 'false')} normalize_variance: {d.of('true', 'false')}"
    return d.plain(shape, f"mvn_param {{ {text} eps: {d.of('1e-9', '0.1')} }}")


@layer_type("BatchNorm")
def batch_norm(d):
    shape = (d.whole(2, 4), d.whole(1, 4), *d.shape(0, 2))
    running = {
        ("l", 0): d.rng.normal(size=shape[1]),
        ("l", 1): d.rng.uniform(1, 2, shape[1]),
        ("l", 2): [2.0],
    }
    # This wheel's own BatchNorm takes the running sums in TRAIN too; BVLC's is in tests/goldens.
    text = f"batch_norm_param {{ use_global_stats: true eps: {d.of(1e-5, 0.1)} }}"
    return d.plain(shape, text, parameters=running)


@layer_type("InnerProduct")
def inner_product(d):
    shape, outputs = d.shape(2), d.whole(1, 4)
    axis = d.axis(shape, 1)
    text = f"num_output: {outputs} axis: {axis} bias_term: {d.of('true', 'false')}"
    text += f" transpose: {d.of('true', 'false')}"
    return d.plain(shape, f"inner_product_param {{ {text} }}", (*shape[: axis % len(shape)], outputs))


@layer_type("Scale", "Bias")
def scale(d):
    shape = d.shape(2)
    start = d.whole(0, len(shape) - 1)
    count = d.whole(0, len(shape) - start)
    bias = f"bias_term: {d.of('true', 'false')}" if d.name == "Scale" else ""
    param = f"{d.name.lower()}_param"
    if d.of(True, False):
        axis = start if d.of(True, False) else start - len(shape)
        return d.plain(shape, f"{param} {{ axis: {axis} num_axes: {count} {bias} }}")
    small = d.values(shape[start : start + count])
    y = d.rng.normal(size=shape).astype(np.float32)
    text = d.layer("x b", text=f"{param} {{ axis: {start} {bias} }}")
    return Case(text, {"x": d.values(shape), "b": small}, {"y": y})


@layer_type("Reduction")
def reduction(d):
    shape = d.shape()
    axis, operation = d.axis(shape), d.of("SUM", "ASUM", "SUMSQ", "MEAN")
    text = f"operation: {operation} axis: {axis} coeff: {d.number(-2, 2)}"
    return d.plain(shape, f"reduction_param {{ {text} }}", shape[: axis % len(shape)])


@layer_type("ArgMax")
def argmax(d):
    shape = d.shape(2, 4)
    axis = d.axis(shape) if d.of(True, False) else None
    choices = math.prod(shape[1:]) if axis is None else shape[axis]
    text = f"top_k: {d.whole(1, choices)} out_max_val: {d.of('true', 'false')}"
    case = d.plain(
        shape, f"argmax_param {{ {text} {'' if axis is None else f'axis: {axis}'} }}", backward=False
    )
    case.inputs["x"] = np.round(case.inputs["x"])  # with ties
    case.dtops = {}
    return case


@layer_type("Tile")
def tile(d):
    shape, tiles = d.shape(), d.whole(1, 3)
    axis = d.axis(shape)
    out = list(shape)
    out[axis] *= tiles
    return d.plain(shape, f"tile_param {{ axis: {axis} tiles: {tiles} }}", out)


@layer_type("Flatten")
def flatten(d):
    shape = d.shape(2)
    start = d.whole(0, len(shape) - 1)
    end = d.whole(start, len(shape) - 1)
    out = (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :])
    return d.plain(shape, f"flatten_param {{ axis: {start} end_axis: {end - len(shape)} }}", out)


@layer_type("Reshape")
def reshape(d):
    shape = d.shape(2, 3)
    return d.plain(
        shape, "reshape_param { shape { dim: 0 dim: -1 dim: 1 } }", (shape[0], math.prod(shape[1:]), 1)
    )


@layer_type("Split", "Concat", "Slice", "Eltwise", "Silence", "Crop")
def several(d):
    shape = d.shape(2)
    axis = d.axis(shape)
    normal = lambda s: d.rng.normal(size=s).astype(np.float32)  # noqa: E731
    if d.name == "Split":
        return Case(d.layer("x", "y z"), {"x": d.values(shape)}, {"y": normal(shape), "z": normal(shape)})
    if d.name == "Silence":
        return Case(d.layer("x", ""), {"x": d.values(shape)}, backward=False)
    if d.name == "Slice":
        big = list(shape)
        big[axis] *= 2
        text = d.layer("x", "y z", f"slice_param {{ axis: {axis} }}")
        return Case(text, {"x": d.values(big)}, {"y": normal(shape), "z": normal(shape)})
    a, b = d.values(shape), d.values(shape)
    if d.name == "Concat":
        out = list(shape)
        out[axis] *= 2
        return Case(
            d.layer("a b", text=f"concat_param {{ axis: {axis} }}"), {"a": a, "b": b}, {"y": normal(out)}
        )
    if d.name == "Crop":
        offset = d.whole(0, 2)
        whole = [
            size + offset + d.whole(0, 2) if i >= axis % len(shape) else size for i, size in enumerate(shape)
        ]
        text = d.layer("a b", text=f"crop_param {{ axis: {axis} offset: {offset} }}")
        return Case(text, {"a": d.values(whole), "b": b}, {"y": normal(shape)})
    operation = d.of("PROD", "SUM", "MAX")
    coeff = f"coeff: {d.number(-2, 2)} coeff: {d.number(-2, 2)}" if operation == "SUM" else ""
    text = d.layer("a b", text=f"eltwise_param {{ operation: {operation} {coeff} }}")
    return Case(text, {"a": a, "b": b}, {"y": normal(shape)})


@layer_type("BatchReindex")
def batch_reindex(d):
    shape = d.shape(1, 4)
    index = d.labels((d.whole(1, 6),), shape[0])
    text = d.layer("x_ i", "y")
    return d.under_loss(text, {"x": d.values(shape), "i": index}, ["y"], ["x"])


@layer_type("Filter")
def filtered(d):
    shape = (d.whole(2, 5), *d.shape(0, 3))
    chosen = d.rng.integers(2, size=shape[0]).astype(np.float32)
    chosen[0] = 1  # Caffe divides by the number of rows chosen
    inputs = {"x": d.values(shape), "z": d.values(shape[:1]), "i": chosen}
    return d.under_loss(d.layer("x_ z_ i", "y w"), inputs, ["y", "w"], ["x", "z"], forwards=2)


@layer_type("Embed")
def embed(d):
    rows = d.whole(1, 6)
    text = (
        f"embed_param {{ input_dim: {rows} num_output: {d.whole(1, 4)} bias_term: {d.of('true', 'false')} }}"
    )
    return d.under_loss(d.layer(text=text), {"x": d.labels(d.shape(1, 3), rows)}, ["y"])


@layer_type("Parameter")
def parameter(d):
    text = d.layer("", "y", f"parameter_param {{ shape {{ {dims(d.shape())} }} }}")
    return d.under_loss(text, {}, ["y"])


def loss_text(d, ignore=True, modes=("FULL", "VALID", "BATCH_SIZE", "NONE")):
    text = f"normalization: {d.of(*modes)}" if d.of(True, False) else ""
    return f"loss_param {{ {text} {'ignore_label: 1' if ignore and d.of(True, False) else ''} }}"


@layer_type("SoftmaxWithLoss", "InfogainLoss", "Accuracy")
def classifier(d):
    shape = (d.whole(1, 4), d.whole(2, 5), *d.shape(0, 2))
    axis = d.of(1, 1 - len(shape))
    label = d.labels((shape[0], *shape[2:]), shape[1])
    inputs, bottoms = {"x": d.values(shape), "t": label}, "x t"
    if d.name == "Accuracy":
        ignore = "ignore_label: 1" if d.of(True, False) else ""
        text = f"accuracy_param {{ top_k: {d.whole(1, shape[1] - 1)} axis: {axis} {ignore} }}"
        return Case(d.layer(bottoms, text=text), inputs, backward=False, force=False, phase="TEST")
    field = "softmax_param" if d.name == "SoftmaxWithLoss" else "infogain_loss_param"
    if d.name == "InfogainLoss":
        inputs["h"], bottoms = d.values((shape[1], shape[1]), 0.1, 1), "x_ t h"
        text = d.layer(bottoms, text=f"{field} {{ axis: {axis} }} {loss_text(d)}")
        return d.under_loss(text, inputs, [], ["x"])
    weight = f"loss_weight: {d.number(0.1, 3)}"
    return Case(d.layer(bottoms, text=f"{field} {{ axis: {axis} }} {loss_text(d)} {weight}"), inputs)


@layer_type("EuclideanLoss", "SigmoidCrossEntropyLoss")
def pair_loss(d):
    shape = d.shape(1)
    if d.name == "EuclideanLoss":
        return Case(d.layer("x t"), {"x": d.values(shape), "t": d.values(shape)})
    target = d.labels(shape, 2) if d.of(True, False) else d.values(shape, 0, 1)
    return Case(d.layer("x t", text=loss_text(d)), {"x": d.values(shape, -5, 5), "t": target})


@layer_type("HingeLoss", "MultinomialLogisticLoss")
def label_loss(d):
    shape = (d.whole(1, 4), *d.shape(1, 3, 4))
    label = d.labels(shape[:1], math.prod(shape[1:]))
    if d.name == "HingeLoss":
        text = f"hinge_loss_param {{ norm: {d.of('L1', 'L2')} }} loss_weight: {d.number(0.1, 3)}"
        return Case(d.layer("x t", text=text), {"x": d.values(shape), "t": label})
    return Case(d.layer("x t"), {"x": d.values(shape, 0.01, 1), "t": label})


@layer_type("ContrastiveLoss")
def contrastive(d):
    shape = (d.whole(1, 5), d.whole(1, 4))
    text = f"margin: {d.number(0.5, 5)} legacy_version: {d.of('true', 'false')}"
    inputs = {"a": d.values(shape), "b": d.values(shape), "s": d.labels(shape[:1], 2)}
    return Case(d.layer("a b s", text=f"contrastive_loss_param {{ {text} }}"), inputs)


@layer_type("RNN", "LSTM")
def recurrent(d):
    # D of 2 and more: the relative error of a blob of one number would be that of its cancellation.
    T, N, D, states = d.whole(1, 4), d.whole(1, 3), d.whole(2, 5), 1 if d.name == "RNN" else 2
    inputs = {
        "x": d.values((T, N, *d.shape(1, 2, 3))),
        "cont": d.rng.integers(2, size=(T, N)).astype(np.float32),
    }
    tops = "y"
    if d.of(True, False):
        inputs["static"] = d.values((N, d.whole(1, 3)))
    exposed = d.of(True, False)
    if exposed:
        inputs |= {f"s{i}": d.values((1, N, D)) for i in range(states)}
        tops += " e0 e1"[: 3 * states]
    text = f"recurrent_param {{ num_output: {D} expose_hidden: {str(exposed).lower()} }}"
    y = d.rng.normal(size=(T, N, D)).astype(np.float32)
    return Case(d.layer(" ".join(inputs), tops, text), inputs, {"y": y}, forwards=d.whole(1, 3))


@layer_type("LSTMUnit")
def lstm_unit(d):
    N, D = d.whole(1, 3), d.whole(1, 4)
    inputs = {"c": d.values((1, N, D)), "g": d.values((1, N, 4 * D)), "cont": d.labels((1, N), 2)}
    tops = {name: d.rng.normal(size=(1, N, D)).astype(np.float32) for name in ("y", "h")}
    return Case(d.layer("c g cont", "y h"), inputs, tops)
