"""Writes the nets of Guo 2018 as prototxt: `python prototxt_like/cnn_rnn/generate.py`.

A net is its data, a backbone that makes the image feature v, and a head that says labels: one of the
CNN-based generators of Figure 2, a coarse- or fine-specific layer, or the CNN-RNN generator of section 3.2.
"""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Data:
    """Databases in `folder`: NAME_lmdb with NAME_paths_lmdb beside it, for NAME of train and test.

    shape: [C, h, w] as the net sees it.    inner, leaves: categories of the tree.    steps: of its paths.
    end: 1 where paths differ in length.    transform: fields of both phases, then of TRAIN.
    """

    folder: str
    shape: tuple[int, int, int]
    inner: int
    leaves: int
    batch: int
    transform: tuple[str, str] = ("", "")
    steps: int = 2
    end: int = 0
    train: str = "train"
    test: str = "test"

    @property
    def categories(self) -> int:
        return self.inner + self.leaves + self.end


@dataclass(frozen=True)
class Head:
    """units: of the embedding and the LSTM, of a CNN-RNN generator."""

    kind: str
    units: int = 512


CIFAR = Data(
    "data/cifar100",
    (3, 32, 32),
    20,
    100,
    200,
    ('crop_size: 32 mean_file: "data/cifar100/mean.binaryproto" scale: 0.015625', "mirror: true"),
)
IMAGENET2010 = Data(
    "data/imagenet2010",
    (3, 224, 224),
    143,
    387,
    32,
    ("crop_size: 224 mean_value: [104, 117, 123]", "mirror: true"),
)
VGG_FEATURES = Data("data/imagenet2010_fc7", (4096, 1, 1), 143, 387, 256)
#: Of the devkit's 860 inner nodes the root is in no path.
RESNET_FEATURES = Data("data/ilsvrc2012_pool5", (2048, 1, 1), 859, 1000, 256, steps=10, end=1, test="val")
EMOJI = Data(
    "data/emoji",
    (3, 28, 28),
    10,
    99,
    64,
    ('crop_size: 28 mean_file: "data/emoji/mean.binaryproto" scale: 0.015625', "mirror: true"),
)
GENERATORS = ("coarse-to-fine", "fine-to-coarse", "fine-and-coarse")
SPECIFIC = ("coarse", "fine")
NORM = "batch_norm_param { moving_average_fraction: 0.95 }"
PLAIN = "param { decay_mult: 0 } param { decay_mult: 0 } scale_param { bias_term: true }"


class Writer:
    """The text of a net; `top` is the blob that the next layer reads, `channels` how many it has."""

    def __init__(self, data: Data, deploy: bool = False):
        self.data, self.deploy = data, deploy
        self.lines: list[str] = []
        self.top, self.channels = "data", data.shape[0]

    def layer(self, name: str, kind: str, *fields: str, bottoms=(), tops=()) -> None:
        """A layer that reads `bottoms`, by default the last top, and gives `tops`, by default its name."""
        bottom = " ".join(f'bottom: "{blob}"' for blob in bottoms or (self.top,))
        tops = tops or (name,)
        self.top = tops[0]
        self.put(name, kind, f"{bottom} " + " ".join(f'top: "{top}"' for top in tops), *fields)

    def put(self, name: str, kind: str, blobs: str, *fields: str) -> None:
        head = f'layer {{ name: "{name}" type: "{kind}" {blobs}'
        if not fields:
            self.lines.append(f"{head} }}")
        elif len(fields) == 1 and len(head) + len(fields[0]) < 108:
            self.lines.append(f"{head} {fields[0]} }}")
        else:
            self.lines += [head, *(f"  {field}" for field in fields), "}"]

    # ---- data ----

    def inputs(self, paths: bool) -> None:
        d = self.data
        sources = {"data": (d.shape, "")}
        if paths:
            sources["path"] = ((d.steps, 1, 1), "_paths")
        if self.deploy:
            for name, (shape, _) in sources.items():
                dims = " ".join(f"dim: {n}" for n in (1, *shape))
                self.put(name, "Input", f'top: "{name}"', f"input_param {{ shape {{ {dims} }} }}")
            return
        for phase, part in (("TRAIN", d.train), ("TEST", d.test)):
            for name, (_, suffix) in sources.items():
                tops = 'top: "data" top: "label"' if name == "data" else f'top: "{name}"'
                transform = " ".join(filter(None, d.transform[: 2 if phase == "TRAIN" else 1]))
                fields = [f"transform_param {{ {transform} }}"] if name == "data" and transform else []
                source = f'source: "{d.folder}/{part}{suffix}_lmdb"'
                fields.append(f"data_param {{ {source} batch_size: {d.batch} backend: LMDB }}")
                layer = name if phase == "TRAIN" else f"{name}_test"
                self.put(layer, "Data", f"{tops} include {{ phase: {phase} }}", *fields)

    # ---- backbones ----

    def convolution(self, name: str, width: int, kernel: int, stride: int = 1, bottom: str = "") -> None:
        size = f"num_output: {width} kernel_size: {kernel}" + (f" pad: {kernel // 2}" if kernel > 1 else "")
        size += f" stride: {stride}" if stride > 1 else ""
        filler = 'bias_term: false weight_filler { type: "msra" }'
        bottoms = (bottom,) if bottom else ()
        self.layer(name, "Convolution", f"convolution_param {{ {size} {filler} }}", bottoms=bottoms)
        self.channels = width

    def activation(self, name: str, in_place: bool = True) -> None:
        """BatchNorm, its scale and shift, ReLU."""
        self.layer(f"{name}_bn", "BatchNorm", NORM, tops=(self.top,) if in_place else ())
        self.layer(f"{name}_scale", "Scale", PLAIN, tops=(self.top,))
        self.layer(f"{name}_relu", "ReLU", tops=(self.top,))

    def pooled(self, name: str, fields: str) -> None:
        self.layer(name, "Pooling", f"pooling_param {{ {fields} }}")

    def dropout(self, name: str, ratio: float) -> None:
        self.layer(name, "Dropout", f"dropout_param {{ dropout_ratio: {ratio:g} }}", tops=(self.top,))

    def plain(self, stages, ratio: float = 0) -> None:
        """Convolutions (width, kernel) with BatchNorm and ReLU; stages end in pooling, the last in AVE."""
        count = 0
        for i, stage in enumerate(stages, 1):
            for width, kernel in stage:
                count += 1
                self.convolution(f"conv{count}", width, kernel)
                self.activation(f"conv{count}")
            if i < len(stages):
                self.pooled(f"pool{i}", "pool: MAX kernel_size: 2 stride: 2")
                if ratio:
                    self.dropout(f"drop{i}", ratio)
        self.pooled("feature", "pool: AVE global_pooling: true")

    def residual(self, first: int, groups, kernels, ratio: float = 0) -> None:
        """Pre-activation residual net (He 2016b): groups of (width, blocks), later ones at half the size."""
        self.convolution("conv1", first, 3)
        for g, (width, blocks) in enumerate(groups, 2):
            for b in range(1, blocks + 1):
                stride = 2 if g > 2 and b == 1 else 1
                self.block(f"conv{g}_{b}", width, kernels, stride, ratio)
        self.activation("last", in_place=False)
        self.pooled("feature", "pool: AVE global_pooling: true")

    def block(self, name: str, width: int, kernels, stride: int, ratio: float) -> None:
        """BatchNorm, ReLU, convolution, as often as there are kernels; plus the input, projected if it must.

        The stride is that of the first 3x3 convolution.
        """
        before, project = self.top, self.channels != width or stride > 1
        shortcut, strided = before, kernels.index(3)
        for i, kernel in enumerate(kernels):
            self.activation(f"{name}_{'abc'[i]}", in_place=i > 0)
            if i == 0 and project:
                activated, channels = self.top, self.channels
                self.convolution(f"{name}_short", width, 1, stride)
                shortcut, self.top, self.channels = self.top, activated, channels
            if ratio and i == len(kernels) - 1:
                self.dropout(f"{name}_drop", ratio)
            self.convolution(f"{name}_{'abc'[i]}", width, kernel, stride if i == strided else 1)
        self.layer(name, "Eltwise", bottoms=(shortcut, self.top))

    def vgg16(self) -> None:
        """Simonyan 2015, configuration D, to fc7; layer names as in the released caffemodel."""
        for i, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
            for j in range(1, count + 1):
                size = f"num_output: {width} kernel_size: 3 pad: 1"
                self.layer(f"conv{i}_{j}", "Convolution", f"convolution_param {{ {size} }}")
                self.layer(f"relu{i}_{j}", "ReLU", tops=(self.top,))
            self.pooled(f"pool{i}", "pool: MAX kernel_size: 2 stride: 2")
        for name in ("fc6", "fc7"):
            self.layer(name, "InnerProduct", "inner_product_param { num_output: 4096 }")
            self.layer(f"relu{name[2:]}", "ReLU", tops=(self.top,))
            self.dropout(f"drop{name[2:]}", 0.5)

    # ---- heads ----

    def scores(self, level: str, bottom: str) -> None:
        """A layer of scores of a level, with its loss of eq. 1: the mean over the batch."""
        count = self.data.inner if level == "coarse" else self.data.leaves
        fields = f'num_output: {count} weight_filler {{ type: "xavier" }}'
        rates = "param { } param { decay_mult: 0 }"
        self.layer(level, "InnerProduct", rates, f"inner_product_param {{ {fields} }}", bottoms=(bottom,))
        if self.deploy:
            self.layer(f"{level}_prob", "Softmax", bottoms=(level,))
        else:
            label = "label" if level == "fine" else "coarse_label"
            self.layer(f"{level}_loss", "SoftmaxWithLoss", bottoms=(level, label))

    def coarse_label(self) -> None:
        """The first of the path's labels."""
        fields = "slice_param { axis: 1 slice_point: 1 }"
        tops = ("coarse_label", "fine_category")
        self.layer("levels", "Slice", fields, bottoms=("path",), tops=tops)
        self.put("rest", "Silence", 'bottom: "fine_category"')

    def levels(self, order: str) -> None:
        """A CNN-based generator (Figure 2), or the layer of one level alone."""
        feature = self.top
        if "coarse" in order and not self.deploy:
            self.coarse_label()
        first, _, second = order.partition("-to-")
        if "-and-" in order:
            self.scores("coarse", feature)
            self.scores("fine", feature)
        else:
            self.scores(first, feature)
            if second:
                self.scores(second, first)

    def rnn(self, units: int) -> None:
        """The CNN-RNN generator: eq. 2-7, with the loss of eq. 8."""
        d, feature = self.data, self.top
        steps = [f"step{t}" for t in range(1, d.steps + 1)]
        points = " ".join(f"slice_point: {t}" for t in range(1, d.steps))
        self.lines.append(
            "# Labels of each step, [T, N]; `before` is what a step sees: the labels one step on."
        )
        self.layer(
            "steps", "Slice", f"slice_param {{ axis: 1 {points} }}", bottoms=("path",), tops=tuple(steps)
        )
        self.layer("in_turn", "Concat", "concat_param { axis: 0 }", bottoms=tuple(steps))
        self.layer("target", "Reshape", f"reshape_param {{ shape {{ dim: {d.steps} dim: -1 }} }}")
        fields = f"slice_param {{ axis: 0 slice_point: {d.steps - 1} }}"
        self.layer("all_but_last", "Slice", fields, tops=("known", "last"))
        if d.end:
            self.lines.append("# The padding, -1, is category 0 to the embedding; its steps have no loss.")
            self.layer("known_relu", "ReLU", bottoms=("known",), tops=("known",))
        self.layer("start", "Power", "power_param { scale: 0 }", bottoms=("last",))
        self.layer("before", "Concat", "concat_param { axis: 0 }", bottoms=("start", "known"))
        self.layer("going", "Power", "power_param { scale: 0 shift: 1 }", bottoms=("known",))
        self.layer("cont", "Concat", "concat_param { axis: 0 }", bottoms=("start", "going"))
        uniform = 'weight_filler { type: "uniform" min: -0.08 max: 0.08 }'
        embed = f"embed_param {{ input_dim: {d.categories} num_output: {units} bias_term: false {uniform} }}"
        self.layer("embed", "Embed", embed, bottoms=("before",))
        self.lines.append("# The first step sees zeros in place of a label.")
        self.layer("x", "Scale", "scale_param { axis: 0 }", bottoms=("embed", "cont"))
        recurrent = f"recurrent_param {{ num_output: {units} {uniform} }}"
        self.layer("lstm", "LSTM", recurrent, bottoms=("x", "cont", feature))
        scores = f'num_output: {d.categories} axis: 2 weight_filler {{ type: "xavier" }}'
        rates = "param { } param { decay_mult: 0 }"
        self.layer("scores", "InnerProduct", rates, f"inner_product_param {{ {scores} }}")
        if self.deploy:
            self.layer("prob", "Softmax", "softmax_param { axis: 2 }")
            return
        weight = f"loss_weight: {1 / d.batch:.9g}"
        loss = "loss_param { normalization: NONE ignore_label: -1 }"
        self.lines.append("# Eq. 8: summed over the steps, the mean over the batch.")
        self.layer(
            *("loss", "SoftmaxWithLoss", f"{weight} softmax_param {{ axis: 2 }} {loss}"),
            bottoms=("scores", "target"),
        )


BACKBONES = {
    "cnn7": lambda w: w.plain(
        [[(96, 3)] * 2, [(192, 3)] * 2, [(192, 3), (192, 1), (192, 1)]],
        0.5,
    ),
    "wrn-28-10": lambda w: w.residual(16, [(160, 4), (320, 4), (640, 4)], (3, 3), 0.3),
    "wider-resnet": lambda w: w.residual(64, [(256, 3), (512, 3), (1024, 3)], (1, 3, 1)),
    "vgg16": lambda w: w.vgg16(),
    "features": lambda w: None,
    "narrow": lambda w: w.plain([[(16, 3)], [(32, 3)], [(64, 3), (64, 3)]]),
}
#: file -> (data, backbone, head)
NETS = {
    **{f"cifar100/cnn7-{kind}": (CIFAR, "cnn7", Head(kind)) for kind in (*GENERATORS, *SPECIFIC, "rnn")},
    **{
        f"cifar100/{net}-{kind}": (CIFAR, net, Head(kind))
        for net in ("wrn-28-10", "wider-resnet")
        for kind in (*SPECIFIC, "rnn")
    },
    "imagenet2010/vgg16-fine": (IMAGENET2010, "vgg16", Head("fine")),
    "imagenet2010/vgg16-rnn": (IMAGENET2010, "vgg16", Head("rnn", 1000)),
    "imagenet2010/features-rnn": (VGG_FEATURES, "features", Head("rnn", 1000)),
    "ilsvrc2012/features-rnn": (RESNET_FEATURES, "features", Head("rnn", 1000)),
    **{
        f"../demo/cnn_rnn/{kind}": (EMOJI, "narrow", Head(kind, 64))
        for kind in (*GENERATORS, *SPECIFIC, "rnn")
    },
    "train_val": (CIFAR, "cnn7", Head("rnn")),
    "deploy": (CIFAR, "cnn7", Head("rnn")),
}


def text(name: str, data: Data, backbone: str, head: Head) -> str:
    writer = Writer(data, deploy=name.endswith("deploy"))
    writer.inputs(paths=head.kind == "rnn" or (head.kind != "fine" and not writer.deploy))
    BACKBONES[backbone](writer)
    if head.kind == "rnn":
        writer.rnn(head.units)
    else:
        writer.levels(head.kind)
    title = f"# Guo 2018: {backbone}, {head.kind}. Made by prototxt_like/cnn_rnn/generate.py.\n"
    return f'{title}name: "{backbone}-{head.kind}"\n' + "".join(f"{line}\n" for line in writer.lines)


def texts() -> dict[Path, str]:
    """Path -> content of every file."""
    return {(HERE / f"{name}.prototxt").resolve(): text(name, *parts) for name, parts in NETS.items()}


if __name__ == "__main__":
    for path, content in texts().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
