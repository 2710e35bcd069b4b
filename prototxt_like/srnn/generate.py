"""Writes the nets of Zhang 2018 as prototxt: `python prototxt_like/srnn/generate.py`.

A net is one CNN over each scale of an image pyramid, the copies sharing their weights by name, and a head: a
classifier on the features of the only scale, on each scale's (ensembles), or on the states of a ScaleRNN.
With arguments, OUT SIDE SIDE ..., it writes train_val.prototxt for other scales to OUT.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEMO = HERE.parent / "demo" / "srnn"
WIDTH = 110
MEAN = "mean_value: 103.53  mean_value: 116.28  mean_value: 123.675"  # of ImageNet, BGR
DEVIATIONS = {"r": 0.229, "g": 0.224, "b": 0.225}  # times 255


@dataclass(frozen=True)
class Entry:
    """A layer of a CNN; the blob it makes has its name, but for those in place. blobs: learnt or counted."""

    name: str
    kind: str
    bottoms: tuple[str, ...]
    top: str
    fields: str = ""
    blobs: int = 0


class Trunk:
    """A CNN from the blob "image" to its pooled features; layers are named as the torch model's modules."""

    def __init__(self, statistics: str, epsilon: str = "", activation: str = "ReLU"):
        self.entries: list[Entry] = []
        self.top = "image"
        self.statistics = f"batch_norm_param {{ {' '.join((statistics, epsilon)).strip()} }}"
        self.activation = activation

    def add(
        self, name: str, kind: str, fields: str = "", blobs: int = 0, *, bottoms=(), top: str = ""
    ) -> None:
        self.entries.append(Entry(name, kind, tuple(bottoms) or (self.top,), top or name, fields, blobs))
        self.top = top or name

    def convolution(self, name: str, width: int, fields: str) -> None:
        text = f'num_output: {width} {fields} bias_term: false weight_filler {{ type: "msra" }}'
        self.add(name, "Convolution", f"convolution_param {{ {text} }}", 1)

    def norm(self, name: str) -> None:
        self.add(name, "BatchNorm", self.statistics, 3, top=self.top)
        self.add(f"{name}.scale", "Scale", "scale_param { bias_term: true }", 2, top=self.top)

    def activate(self, name: str) -> None:
        kind, fields = "ReLU", ""
        if self.activation == "ReLU6":
            kind, fields = "Clip", "clip_param { min: 0 max: 6 }"
        self.add(name, kind, fields, top=self.top)

    def pool(self, name: str) -> None:
        self.add(name, "Pooling", "pooling_param { pool: AVE global_pooling: true }")

    def sum(self, name: str, other: str) -> None:
        self.add(f"{name}.sum", "Eltwise", bottoms=(self.top, other), top=name)


def resnet18(statistics: str) -> Trunk:
    """torchvision's, 512 features."""
    net = Trunk(statistics)
    net.convolution("conv1", 64, "kernel_size: 7 pad: 3 stride: 2")
    net.norm("bn1")
    net.activate("relu")
    pool = "pool: MAX kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR"
    net.add("maxpool", "Pooling", f"pooling_param {{ {pool} }}")
    for i, width in enumerate((64, 128, 256, 512)):
        for j in range(2):
            _residual(net, f"layer{i + 1}.{j}", width, 2 if i and not j else 1)
    net.pool("avgpool")
    return net


def _residual(net: Trunk, name: str, width: int, stride: int) -> None:
    """Two 3x3 convolutions beside the identity, or where the map shrinks beside a 1x1 convolution."""
    other = bottom = net.top
    if stride > 1:
        net.convolution(f"{name}.downsample.0", width, f"kernel_size: 1 stride: {stride}")
        net.norm(f"{name}.downsample.1")
        other = net.top
    net.top = bottom
    net.convolution(f"{name}.conv1", width, f"kernel_size: 3 pad: 1 stride: {stride}")
    net.norm(f"{name}.bn1")
    net.activate(f"{name}.relu1")
    net.convolution(f"{name}.conv2", width, "kernel_size: 3 pad: 1")
    net.norm(f"{name}.bn2")
    net.sum(name, other)
    net.activate(f"{name}.relu2")


#: of EfficientNet-lite0: blocks, kernel, stride of the first, expansion, channels.
LITE0 = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
LITE0 += ((4, 5, 2, 6, 192), (1, 3, 1, 6, 320))


def efficientnet_lite0(statistics: str) -> Trunk:
    """1,280 features; the names are those of efficientnet-lite-pytorch. Lite: no excitation, ReLU6."""
    net, channels, number = Trunk(statistics, "eps: 0.001", "ReLU6"), 32, 0
    net.convolution("_conv_stem", channels, "kernel_size: 3 stride: 2 same_pad: true")
    net.norm("_bn0")
    net.activate("_relu0")
    for count, kernel, stride, expansion, width in LITE0:
        for i in range(count):
            _inverted(net, f"_blocks.{number}", channels, width, kernel, 1 if i else stride, expansion)
            channels, number = width, number + 1
    net.convolution("_conv_head", 1280, "kernel_size: 1")
    net.norm("_bn1")
    net.activate("_relu1")
    net.pool("_avg_pooling")
    return net


def _inverted(
    net: Trunk, name: str, channels: int, width: int, kernel: int, stride: int, expansion: int
) -> None:
    """1x1 to more channels, one kernel a channel, 1x1 to fewer; beside the identity where shapes allow."""
    bottom, wide = net.top, channels * expansion
    if expansion > 1:
        net.convolution(f"{name}._expand_conv", wide, "kernel_size: 1")
        net.norm(f"{name}._bn0")
        net.activate(f"{name}._relu0")
    window = f"kernel_size: {kernel} stride: {stride} same_pad: true group: {wide}"
    net.convolution(f"{name}._depthwise_conv", wide, window)
    net.norm(f"{name}._bn1")
    net.activate(f"{name}._relu1")
    net.convolution(f"{name}._project_conv", width, "kernel_size: 1")
    net.norm(f"{name}._bn2")
    if stride == 1 and channels == width:
        net.sum(name, bottom)


@dataclass(frozen=True)
class Data:
    """Databases FOLDER/TRAIN_lmdb and FOLDER/TEST_lmdb. side: of the images as the net gets them."""

    folder: str
    train: str
    test: str
    side: int
    classes: int
    batches: tuple[int, int]
    transform: tuple[str, str]  # of TRAIN, of both


ILSVRC = Data("data/ilsvrc2012-512", "train", "val", 448, 1000, (256, 50), ("mirror: true", "crop_size: 448"))
EMOJI = Data("data/emoji64", "train", "test", 64, 99, (32, 96), ("mirror: true", ""))


def layer(name: str, kind: str, bottoms=(), tops=(), *fields: str) -> Iterator[str]:
    """The lines of a layer; fields are kept whole where a line holds them."""
    blobs = [f'bottom: "{blob}"' for blob in bottoms] + [f'top: "{blob}"' for blob in tops]
    line = f'layer {{ name: "{name}" type: "{kind}"'
    for field in (*blobs, *filter(None, fields)):
        if len(line) + len(field) > WIDTH - 4:
            yield line
            line = " "
        for part in [field] if len(field) < WIDTH - 5 else re.split(r" (?=\w+:|\w+ \{)", field):
            if len(line) + len(part) > WIDTH - 4:
                yield line
                line = "   "
            line += f" {part}"
    yield f"{line} }}"


def sharing(name: str, blobs: int, extra: str = "") -> list[str]:
    """Parameters by the name of the layer that has them first; `extra` for what no solver may touch."""
    return [f'param {{ name: "{name}/{i}"{extra} }}' for i in range(blobs)]


def data_layers(data: Data, features: bool) -> Iterator[str]:
    for phase, part, batch in zip(("TRAIN", "TEST"), (data.train, data.test), data.batches, strict=True):
        hidden = ' not_stage: "features"' if features and phase == "TRAIN" else ""
        transform = " ".join(
            filter(None, (data.transform[0] if phase == "TRAIN" else "", data.transform[1], MEAN))
        )
        yield from layer(
            "data",
            "Data",
            (),
            ("data", "label"),
            f"include {{ phase: {phase}{hidden} }}",
            f"transform_param {{ {transform} }}",
            f'data_param {{ source: "{data.folder}/{part}_lmdb" batch_size: {batch} backend: LMDB }}',
        )


def feature_layers(data: Data, trunk: Trunk, scales: tuple[int, ...]) -> Iterator[str]:
    """In place of the images, in a train_state of stage "features": what the CNN made of each."""
    yield '# For solvers with train_state { stage: "features" }: what the layers up to the pooling make.'
    for i, side in enumerate(scales):
        top = scaled(trunk.top, i)
        tops = (top, "label") if not i else (top,)
        source = f"{data.folder}/{data.train}_features_{side}_lmdb"
        yield from layer(
            scaled("features", i),
            "Data",
            (),
            tops,
            'include { phase: TRAIN stage: "features" }',
            f'data_param {{ source: "{source}" batch_size: {data.batches[0]} backend: LMDB }}',
        )


def input_layers(data: Data, sized: bool) -> Iterator[str]:
    shape = f"input_param {{ shape {{ dim: 1 dim: 3 dim: {data.side} dim: {data.side} }} }}"
    yield from layer("data", "Input", (), ("data",), shape)
    if sized:
        yield "# Height and width of each image, which lies in the top left corner of data."
        yield from layer("sizes", "Input", (), ("sizes",), "input_param { shape { dim: 1 dim: 2 } }")


def pyramid(scales: tuple[int, ...], sized: bool, *fields: str) -> Iterator[str]:
    """From BGR less the mean to RGB of variance 1, as torch's models take it, at every scale."""
    yield "# BGR less its mean to RGB of deviation 1."
    yield from layer("bgr", "Slice", ("data",), "bgr", *fields)
    for channel, deviation in DEVIATIONS.items():
        scale = f"power_param {{ scale: {1 / (255 * deviation):.9f} }}"
        yield from layer(channel, "Power", (channel,), (channel,), *fields, scale)
    yield from layer("rgb", "Concat", "rgb", ("rgb",), *fields)
    sides = " ".join(f"scale: {scale}" for scale in scales)
    images = [scaled("image", i) for i in range(len(scales))]
    sides = f"image_pyramid_param {{ {sides} }}"
    bottoms = ("rgb", "sizes") if sized else ("rgb",)
    yield from layer("pyramid", "ImagePyramid", bottoms, images + ["count"] * sized, *fields, sides)


def scaled(name: str, i: int) -> str:
    """The name of a layer or blob at scale i; the smallest scale has the plain one."""
    return f"scale{i + 1}/{name}" if i else name


def copies(trunk: Trunk, count: int, *fields: str) -> Iterator[str]:
    """The CNN over each scale."""
    for i in range(count):
        yield f"# Scale {i + 1}." + (" Every blob is that of scale 1." if i else "")
        for e in trunk.entries:
            still = " lr_mult: 0" if e.kind == "BatchNorm" else ""
            yield from layer(
                scaled(e.name, i),
                e.kind,
                [scaled(blob, i) for blob in e.bottoms],
                [scaled(e.top, i)],
                *fields,
                *sharing(e.name, e.blobs, still),
                e.fields,
            )


def classifier(bottom: str, top: str, classes: int) -> Iterator[str]:
    fields = f'inner_product_param {{ num_output: {classes} weight_filler {{ type: "xavier" }} }}'
    yield from layer(top, "InnerProduct", (bottom,), (top,), *sharing("fc", 2), fields)


def answers(scores: list[str], deployed: str) -> Iterator[str]:
    """What is done with the scores, the best last; those before it do not count in the training."""
    for i, score in enumerate(scores):
        last = i == len(scores) - 1
        after = "" if last else f"_{i + 1}"
        if deployed:
            yield from layer(f"prob{after}", "Softmax", (score,), (f"prob{after}",))
            continue
        test = "include { phase: TEST }"
        yield from layer(f"accuracy{after}", "Accuracy", (score, "label"), (f"accuracy{after}",), test)
        weight = "" if last else "loss_weight: 0"
        yield from layer(f"loss{after}", "SoftmaxWithLoss", (score, "label"), (f"loss{after}",), weight)


def single(trunk: Trunk, classes: int, deployed: str, scales: int) -> Iterator[str]:
    yield from classifier(trunk.top, "fc", classes)
    yield from answers(["fc"], deployed)


def ensemble(trunk: Trunk, classes: int, deployed: str, scales: int) -> Iterator[str]:
    """The mean of the scales' probabilities; without the layers softmax and log, of their scores."""
    for i in range(scales):
        yield from classifier(scaled(trunk.top, i), scaled("fc", i), classes)
    yield "# The mean of probabilities, as logarithms; without softmax and log that of the scores."
    for i in range(scales):
        name = scaled("softmax", i)
        yield from layer(name, "Softmax", (scaled("fc", i),), (name,))
    share = " ".join([f"coeff: {1 / scales:g}"] * scales)
    bottoms = [scaled("softmax", i) for i in range(scales)]
    yield from layer("mean", "Eltwise", bottoms, ("mean",), f"eltwise_param {{ operation: SUM {share} }}")
    yield from layer("log", "Log", ("mean",), ("scores",), "log_param { shift: 1e-30 }")
    yield from answers(["scores"], deployed)


def recurrent(trunk: Trunk, classes: int, deployed: str, scales: int) -> Iterator[str]:
    """Zhang 2018, eq. 1 (with cell half_gru eq. 2); the classifier reads the state after every scale."""
    sized = deployed == "sized"
    features = [scaled(trunk.top, i) for i in range(scales)] + ["count"] * sized
    states = [f"h_{i + 1}" for i in range(scales)]
    names = [f"fc_{i + 1}" for i in range(scales - 1)] + ["fc"]
    yield "# Zhang 2018, eq. 1; U starts as the identity. The classifier can be read after every scale."
    fields = f'scale_rnn_param {{ cell: "relu"{" counted: true" if sized else ""} }}'
    yield from layer("srnn", "ScaleRNN", features, states, fields)
    for state, name in reversed(list(zip(states, names, strict=True))):  # layer fc has the weights
        yield from classifier(state, name, classes)
    yield from answers(names, deployed)


def write(
    path: Path, about: str, trunk: Trunk, scales: tuple[int, ...], head, data: Data, deployed=""
) -> None:
    """The net of `head`; that of EMOJI can also be trained on features.

    deployed: "" for training and test, "crops", or "sized" for images of different sizes.
    """
    features = data is EMOJI
    fields = ['exclude { stage: "features" }'] if features else []
    sides = " and ".join(map(str, scales))
    lines = [
        f"# {about.format(f'{sides} pixels')}",
        "# Written by srnn/generate.py.",
        f'name: "srnn-{path.stem}"',
    ]
    lines += input_layers(data, deployed == "sized") if deployed else data_layers(data, features)
    lines += feature_layers(data, trunk, scales) if features else []
    lines += pyramid(scales, deployed == "sized", *fields)
    lines += copies(trunk, len(scales), *fields)
    lines += head(trunk, data.classes, deployed, len(scales))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(words: list[str]) -> None:
    moving, kept = "moving_average_fraction: 0.9", "use_global_stats: true"
    paper, resnet = "Zhang 2018: ResNet-18 over {}, and a recurrent net over the scales.", resnet18(moving)
    if words:
        out, *sides = words
        write(Path(out), paper, resnet, tuple(map(int, sides)), recurrent, ILSVRC)
        return
    write(HERE / "train_val.prototxt", paper, resnet, (224, 448), recurrent, ILSVRC)
    write(
        HERE / "deploy.prototxt",
        f"{paper} BGR less the mean.",
        resnet,
        (224, 448),
        recurrent,
        ILSVRC,
        "crops",
    )
    sizes = "Zhang 2018 for images of different sizes: ResNet-18 over {}. BGR less the mean."
    write(HERE / "deploy_sizes.prototxt", sizes, resnet, (224, 448), recurrent, ILSVRC, "sized")
    write(HERE / "single.prototxt", "ResNet-18 over {}.", resnet, (224,), single, ILSVRC)
    write(HERE / "ensemble.prototxt", "ResNet-18 over {}: an ensemble.", resnet, (224, 448), ensemble, ILSVRC)
    small, lite0 = "EfficientNet-lite0 over {}", efficientnet_lite0(kept)
    DEMO.mkdir(exist_ok=True)
    write(DEMO / "single.prototxt", f"{small}.", lite0, (64,), single, EMOJI)
    write(DEMO / "ensemble.prototxt", f"{small}: an ensemble.", lite0, (32, 64), ensemble, EMOJI)
    recurrence = f"{small}, and a recurrent net over the scales."
    write(DEMO / "srnn.prototxt", recurrence, lite0, (32, 64), recurrent, EMOJI)


if __name__ == "__main__":
    main(sys.argv[1:])
