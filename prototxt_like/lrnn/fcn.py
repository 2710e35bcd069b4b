"""Writes the FCNs of Xie 2016, Figures 4 and 7, as prototxt: `python prototxt_like/lrnn/fcn.py`.

A base net halves the image five times; fc1-fc3 score its last map, fc4-fc6 and fc7-fc9 the maps after its
fourth and third halving; coarser scores are doubled in size and added. demo/segmentation has the same form.
"""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Fcn:
    """base: (channels, convolutions) of each stage; a max pooling follows each.    streams: how many of its
    last maps are scored.    kernel: of fc1.    channels: of fc1 and fc2; of fc4, fc5, fc7 and fc8."""

    name: str
    base: tuple[tuple[int, int], ...]
    streams: int
    kernel: int
    channels: tuple[int, int]
    classes: int

    @property
    def stride(self) -> int:
        """Pixels a step of the finest map that is scored."""
        return 2 ** (len(self.base) - self.streams + 1)


VOC = {"TRAIN": "data/voc2012/train", "TEST": "data/voc2012/val"}
SCENES = {"TRAIN": "data/wesnoth/train", "TEST": "data/wesnoth/test"}
VGG16 = (64, 2), (128, 2), (256, 3), (512, 3), (512, 3)


def convolution(name: str, bottom: str, channels: int, kernel: int, fill: str = "msra", relu=True) -> str:
    """A convolution that keeps the size, and its ReLU in place."""
    pad = f" pad: {kernel // 2}" if kernel > 1 else ""
    filler = f'weight_filler {{ type: "{fill}" }}'
    text = f"""\
layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"
  param {{ lr_mult: 1 decay_mult: 1 }} param {{ lr_mult: 2 decay_mult: 0 }}
  convolution_param {{ num_output: {channels} kernel_size: {kernel}{pad} {filler} }}
}}
"""
    if relu:
        text += f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
    return text


def dropout(blob: str) -> str:
    return f"""\
layer {{ name: "drop_{blob}" type: "Dropout" bottom: "{blob}" top: "{blob}"
  dropout_param {{ dropout_ratio: 0.5 }}
}}
"""


def upsampling(top: str, bottom: str, classes: int, factor: int) -> str:
    """Bilinear and fixed. A kernel of twice the factor, padded by half of it: the size times `factor`.

    The layer's name tells the factor, so that weights of one FCN load into another.
    """
    return f"""\
layer {{ name: "{top}_x{factor}" type: "Deconvolution" bottom: "{bottom}" top: "{top}"
  param {{ lr_mult: 0 decay_mult: 0 }}
  convolution_param {{ num_output: {classes} group: {classes} bias_term: false
    kernel_size: {2 * factor} stride: {factor} pad: {factor // 2} weight_filler {{ type: "bilinear" }} }}
}}
"""


def body(fcn: Fcn) -> str:
    """From the image to the scores `score`, as large as it."""
    text, top = "", "data"
    for i, (channels, count) in enumerate(fcn.base, 1):
        for j in range(1, count + 1):
            text += convolution(f"conv{i}_{j}", top, channels, 3)
            top = f"conv{i}_{j}"
        text += f"""\
layer {{ name: "pool{i}" type: "Pooling" bottom: "{top}" top: "pool{i}"
  pooling_param {{ pool: MAX kernel_size: 2 stride: 2 }}
}}
"""
        top = f"pool{i}"
    last, scores = len(fcn.base), ""
    for stream in range(fcn.streams):
        fc = [f"fc{3 * stream + n}" for n in (1, 2, 3)]
        channels, kernel = fcn.channels[stream > 0], 1 if stream else fcn.kernel
        text += f"# The scores of pool{last - stream}\n"
        text += convolution(fc[0], f"pool{last - stream}", channels, kernel) + dropout(fc[0])
        text += convolution(fc[1], fc[0], channels, 1) + dropout(fc[1])
        text += convolution(fc[2], fc[1], fcn.classes, 1, "xavier", relu=False)
        if scores:
            text += upsampling(f"twice{stream}", scores, fcn.classes, 2)
            text += f"""\
layer {{ name: "sum{stream}" type: "Eltwise" bottom: "twice{stream}" bottom: "{fc[2]}" top: "sum{stream}" }}
"""
        scores = f"sum{stream}" if scores else fc[2]
    return text + upsampling("score", scores, fcn.classes, fcn.stride)


def data(phase: str, folders: dict[str, str], batch: int, transform: str) -> str:
    part = folders[phase]
    extra = " mirror: true" if phase == "TRAIN" else ""
    return f"""\
layer {{
  name: "data" type: "Data" top: "data" top: "label"
  include {{ phase: {phase} }}
  transform_param {{ {transform}{extra} }}
  data_param {{
    source: "{part}_lmdb" label_source: "{part}_maps_lmdb"
    batch_size: {batch} backend: LMDB
  }}
}}
"""


LOSS = """\
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param { ignore_label: 255 }
}
"""


def train_val(fcn: Fcn, folders: dict[str, str], batches: dict[str, int], transform: str) -> str:
    head = f'# Written by lrnn/fcn.py (Xie 2016, Figures 4 and 7).\nname: "{fcn.name}"\n'
    sources = "".join(data(phase, folders, batch, transform) for phase, batch in batches.items())
    return head + sources + body(fcn) + LOSS


def files() -> dict[Path, str]:
    """Path -> text of every file that is written."""
    vgg_mean = "mean_value: 103.939 mean_value: 116.779 mean_value: 123.68"
    found = {}
    for streams, stride in ((1, 32), (2, 16), (3, 8)):
        fcn = Fcn(f"FCN-{stride}s", VGG16, streams, 7, (4096, 1024), 21)
        assert fcn.stride == stride
        found[HERE / f"voc2012/fcn{stride}s.prototxt"] = train_val(
            fcn, VOC, {"TRAIN": 5, "TEST": 2}, vgg_mean
        )
    small = Fcn("scenes-FCN", ((16, 1), (32, 1), (64, 1), (64, 1)), 3, 3, (64, 64), 10)
    transform = "crop_size: 96 mean_value: 90 scale: 0.0078125"
    found[HERE.parent / "demo/segmentation/fcn4s.prototxt"] = train_val(
        small, SCENES, {"TRAIN": 16, "TEST": 20}, transform
    )
    return found


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
