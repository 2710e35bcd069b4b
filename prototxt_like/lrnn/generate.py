"""Writes the nets of Xie 2016, Table 1, as prototxt: `python prototxt_like/lrnn/generate.py`.

A net is three stages of modules with max pooling between, on 32 x 32 images; Table 2 says which cell, fusion
and global pooling each has. A module is pre-activated, as He 2016b has it: BatchNorm and ReLU come first.
"""

from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
RNN, GRU = "ln_relu", "gru"


@dataclass(frozen=True)
class Module:
    """kind: "cnn", two 3x3 convolutions, or "rnn", a bidirectional RNN over rows, then one over columns; both
    give `width` channels. fusion with the input: "forward", "sum" (eq. 3) or "concat" (eq. 4)."""

    kind: str
    width: int
    fusion: str = "concat"


@dataclass(frozen=True)
class Network:
    stages: tuple[tuple[Module, ...], ...]
    cell: str = RNN
    pool: str = "MAX"  # the global one


def cnn(*widths: int) -> tuple[Module, ...]:
    """CNN modules in a row, of which the last is concatenated with its input."""
    return *(Module("cnn", width, "forward") for width in widths[:-1]), Module("cnn", widths[-1])


def interleaved(width: int, times: int = 1) -> tuple[Module, ...]:
    """E and F: an L-RNN module of 128 before each CNN module."""
    return (Module("rnn", 128, "forward"), Module("cnn", width)) * times


def a(fusion: str) -> tuple[tuple[Module, ...], ...]:
    return (Module("cnn", 64, fusion),), (Module("cnn", 128, fusion),), (Module("rnn", 256, fusion),)


LAST = (Module("rnn", 256),)
BASELINE = Network((cnn(64), cnn(128), cnn(256)))
B = Network((cnn(64, 64), cnn(128, 128), LAST))
NETS = {
    "Baseline-CNN-Avg": replace(BASELINE, pool="AVE"),
    "Baseline-CNN-Max": BASELINE,
    "A-Concat-RNN-Avg": Network(a("concat"), pool="AVE"),
    "A-Concat-RNN-Max": Network(a("concat")),
    "A-Forward-GRU-Max": Network(a("forward"), GRU),
    "A-Concat-GRU-Max": Network(a("concat"), GRU),
    "A-Sum-GRU-Max": Network(a("sum"), GRU),
    "B-GRU-Max": replace(B, cell=GRU),
    "B-RNN-Max": B,
    "C-GRU-Max": Network((cnn(64, 64, 64), cnn(128, 128, 128), LAST), GRU),
    # The third row of Table 1 has D's CNN modules of 128 twice, before and after the pooling.
    "D-GRU-Max": Network((cnn(64, 64, 64) + cnn(128, 128, 128), cnn(128, 128, 128), LAST), GRU),
    "E-RNN-Max": Network((cnn(64), interleaved(128), interleaved(128))),
    "F-RNN-Max": Network((cnn(64) * 3, interleaved(64, 2), interleaved(64, 2))),
}


class Writer:
    """The text of a net; `top` is the blob that the next layer reads, `channels` how many it has."""

    def __init__(self, network: Network, width: float = 1):
        self.network, self.width, self.lines = network, width, []
        self.top, self.channels = "data", 3
        self.count = {"cnn": 0, "rnn": 0}

    def scaled(self, width: int) -> int:
        return max(1, round(width * self.width))

    def layer(self, name: str, kind: str, *fields: str, bottoms=(), top: str = "") -> None:
        """A layer that reads `bottoms`, by default the last top, and gives `top`, by default its name."""
        bottom = " ".join(f'bottom: "{blob}"' for blob in bottoms or (self.top,))
        self.top = top or name
        head = f'layer {{ name: "{name}" type: "{kind}" {bottom} top: "{self.top}"'
        if not fields:
            self.lines.append(f"{head} }}")
        elif len(fields) == 1 and len(head) + len(fields[0]) < 108:
            self.lines.append(f"{head} {fields[0]} }}")
        else:
            self.lines += [head, *(f"  {field}" for field in fields), "}"]

    def activation(self, name: str) -> None:
        """BatchNorm, its scale and shift, ReLU."""
        self.layer(f"{name}_bn", "BatchNorm", "batch_norm_param { moving_average_fraction: 0.95 }")
        plain = "param { decay_mult: 0 } param { decay_mult: 0 } scale_param { bias_term: true }"
        self.layer(f"{name}_scale", "Scale", plain, top=self.top)
        self.layer(f"{name}_relu", "ReLU", top=self.top)

    def convolution(self, name: str, width: int, kernel: int) -> None:
        size = f"num_output: {width} kernel_size: {kernel}" + (f" pad: {kernel // 2}" if kernel > 1 else "")
        filler = 'bias_term: false weight_filler { type: "msra" }'
        self.layer(name, "Convolution", f"convolution_param {{ {size} {filler} }}")
        self.channels = width

    def recurrence(self, name: str, width: int, directions: tuple[str, str]) -> None:
        order = " ".join(f'direction: "{one}"' for one in directions)
        gain = " param { decay_mult: 0 }" if self.network.cell == RNN else ""
        fill = 'weight_filler { type: "xavier" } recurrent_filler { type: "xavier" }'
        self.layer(
            name,
            "SpatialRNN",
            "param { } param { decay_mult: 0 } param { }" + gain,
            f"spatial_rnn_param {{ num_output: {width} {order}",
            f'  line_break: "reset" cell: "{self.network.cell}"',
            f"  {fill} }}",
        )
        self.channels = width

    def module(self, module: Module) -> None:
        self.count[module.kind] += 1
        name, width = f"{module.kind}{self.count[module.kind]}", self.scaled(module.width)
        self.lines.append(f"# {module.kind.upper()} module ({width}), {module.fusion}")
        if module.fusion == "sum" and self.channels != width:
            self.convolution(f"{name}_match", width, 1)
        entry, channels = self.top, self.channels
        if module.kind == "cnn":
            for n in (1, 2):
                self.activation(f"{name}_{n}")
                self.convolution(f"{name}_{n}_conv", width, 3)
        else:
            self.activation(name)
            self.recurrence(f"{name}_rows", width, ("right", "left"))
            self.recurrence(f"{name}_columns", width, ("down", "up"))
        if module.fusion == "concat":
            self.layer(f"{name}_concat", "Concat", bottoms=(entry, self.top))
            self.channels += channels
        elif module.fusion == "sum":
            self.layer(f"{name}_sum", "Eltwise", bottoms=(entry, self.top))

    def body(self, classes: int) -> str:
        """From the first convolution to the scores `fc`."""
        self.convolution("conv1", self.scaled(64), 3)
        for n, stage in enumerate(self.network.stages):
            if n:
                self.layer(f"pool{n}", "Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 }")
            for module in stage:
                self.module(module)
        self.activation("last")
        self.layer("global", "Pooling", f"pooling_param {{ pool: {self.network.pool} global_pooling: true }}")
        self.layer("drop", "Dropout", "dropout_param { dropout_ratio: 0.5 }", top=self.top)
        fill = 'weight_filler { type: "xavier" }'
        self.layer(
            "fc",
            "InnerProduct",
            "param { } param { decay_mult: 0 }",
            f"inner_product_param {{ num_output: {classes} {fill} }}",
        )
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True)
class Data:
    """`folder`, where train_lmdb, test_lmdb and the mean are; batches of TRAIN and TEST; what TRAIN adds."""

    folder: str
    classes: int
    batches: tuple[int, int]
    augmentation: str = "mirror: true rotation: 15 scaling: 1.2"

    def layer(self, phase: str) -> str:
        source, batch = f"{self.folder}/{phase.lower()}_lmdb", self.batches[phase == "TEST"]
        extra = f"\n    {self.augmentation}" if phase == "TRAIN" else ""
        return f"""\
layer {{
  name: "data" type: "Data" top: "data" top: "label"
  include {{ phase: {phase} }}
  transform_param {{
    mean_file: "{self.folder}/mean.binaryproto" scale: 0.0078125{extra}
  }}
  data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }}
}}
"""


CIFAR10 = Data("data/cifar10", 10, (100, 100))
ENDS = """\
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
  include { phase: TEST }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
INPUT = """\
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
"""
PROB = 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'


def train_val(name: str, data: Data = CIFAR10, width: float = 1) -> str:
    """The text of a net for training and testing; `width` multiplies every number of channels."""
    share = "" if width == 1 else f", {width:g} of its channels"
    head = f'# Written by lrnn/generate.py: {name} (Xie 2016, Table 1){share}.\nname: "{name}"\n'
    return (
        head + data.layer("TRAIN") + data.layer("TEST") + Writer(NETS[name], width).body(data.classes) + ENDS
    )


def deploy(name: str, classes: int = 10) -> str:
    """The same net for single images: their input is less the mean, times 1/128."""
    head = f'# Written by lrnn/generate.py: {name} (Xie 2016, Table 1) for single images.\nname: "{name}"\n'
    return head + INPUT + Writer(NETS[name]).body(classes) + PROB


def files() -> dict[Path, str]:
    """Path -> text of every file that is written."""
    scenes = Data("data/wesnoth32", 5, (32, 100))
    narrow = ("Baseline-CNN-Max", "A-Concat-RNN-Max", "E-RNN-Max")
    return {
        HERE / "train_val.prototxt": train_val("E-RNN-Max"),
        HERE / "deploy.prototxt": deploy("E-RNN-Max"),
        **{HERE / "table2" / f"{name}.prototxt": train_val(name) for name in NETS},
        **{HERE.parent / "demo/lrnn" / f"{name}.prototxt": train_val(name, scenes, 1 / 4) for name in narrow},
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
