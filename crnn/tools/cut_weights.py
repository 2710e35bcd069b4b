"""cut-weights: makes convolutions of trained fully connected layers, with fewer channels drawn at random."""

import argparse
import os

import numpy as np

from crnn.net.cut import Cut, cut
from crnn.proto import pb
from crnn.proto.blobs import read_binary, write_binary
from crnn.proto.upgrade import upgrade_net
from crnn.tools.flags import named_twice, normalise

EPILOG = """example:
  crnn cut-weights --weights VGG_ILSVRC_16_layers.caffemodel --layers fc6:fc1:2048,fc7:fc2:2048 \\
      --out data/vgg16/vgg16_2048.caffemodel

fc6, an InnerProduct over 512 maps of 7 x 7, becomes the 7 x 7 convolution fc1 with 2048 of its 4096 channels,
fc7 the 1 x 1 convolution fc2 that reads these. All other layers stay."""


def cuts(text: str) -> list[Cut]:
    """`fc6:fc1:2048,...` -> its parts."""
    rows = [entry.split(":") for entry in text.split(",") if entry]
    if not rows or any(len(row) != 3 or not all(row) or not row[2].isdigit() for row in rows):
        raise argparse.ArgumentTypeError(f"wanted LAYER:NEW_NAME:CHANNELS,..., got {text!r}")
    if twice := named_twice(name for name, _, _ in rows):
        raise argparse.ArgumentTypeError(f"layer {twice!r} is named twice")
    return [Cut(name, renamed, int(channels)) for name, renamed, channels in rows]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn cut-weights",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", required=True, metavar="FILE", help="a .caffemodel")
    parser.add_argument("--layers", required=True, type=cuts, metavar="LAYER:NEW_NAME:CHANNELS,...")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the draw (default 1)")
    parser.add_argument("--out", required=True, metavar="FILE", help="the new .caffemodel")
    arguments = parser.parse_args(normalise(argv))
    if os.path.exists(arguments.out):
        raise ValueError(f"{arguments.out} is there already: choose another --out")
    stored = read_binary(arguments.weights, pb.NetParameter)
    upgrade_net(stored)
    cut(stored, arguments.layers, np.random.default_rng(arguments.seed))
    os.makedirs(os.path.dirname(arguments.out) or ".", exist_ok=True)
    write_binary(arguments.out, stored)
    print(f"wrote {arguments.out}")
    return 0
