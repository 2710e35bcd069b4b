"""insert-rnn: puts L-RNNs into a trained net, prototxt and weights, without changing what it gives."""

import argparse
import os

from crnn.net.insert import insert, insert_weights
from crnn.ops.plan import CASCADES
from crnn.proto import pb
from crnn.proto.blobs import read_binary, write_binary, write_bytes
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net, upgrade_net
from crnn.tools.flags import named_twice, normalise

EPILOG = """example:
  crnn insert-rnn --net fcn32s/train_val.prototxt --weights fcn32s.caffemodel \\
      --layers fc1:horizontal,fc2:vertical --out lrnn
writes lrnn.prototxt and lrnn.caffemodel.

Each layer is a convolution that a ReLU alone reads. The ReLU becomes a SpatialRNN that takes the
convolution's output as W_ih x + b, in two directions, averaged, with V = 0 (Xie 2016, section 4): the new
net gives the same bits until it is trained. Comments of the prototxt are not kept."""


def layers(text: str) -> dict[str, str]:
    """`a:horizontal,b:both` -> {"a": "horizontal", "b": "both"}."""
    pairs = [entry.rpartition(":") for entry in text.split(",") if entry]
    if twice := named_twice(name for name, _, _ in pairs):
        raise argparse.ArgumentTypeError(f"layer {twice!r} is named twice; `both` scans rows and columns")
    wrong = [name or where for name, _, where in pairs if not name or where not in CASCADES]
    if wrong or not pairs:
        raise argparse.ArgumentTypeError(
            f"wanted LAYER:WHERE,..., WHERE one of {', '.join(CASCADES)}; got {text!r}"
        )
    return {name: where for name, _, where in pairs}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="crnn insert-rnn",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--net", required=True, metavar="FILE", help="the net's prototxt")
    parser.add_argument(
        "--weights", metavar="FILE", help="its .caffemodel; without it only the prototxt is made"
    )
    parser.add_argument("--layers", required=True, type=layers, metavar="LAYER:WHERE,...")
    parser.add_argument("--out", required=True, metavar="STEM", help="the new files, without their endings")
    parser.add_argument("--force", action="store_true", help="write over files that are there")
    arguments = parser.parse_args(normalise(argv, ("force",)))
    model, weights = f"{arguments.out}.prototxt", f"{arguments.out}.caffemodel"
    for path in (model, weights):
        if os.path.exists(path) and not arguments.force:
            raise ValueError(f"{path} is there already: choose another --out, or add --force")
    net, added = insert(read_net(arguments.net), arguments.layers)
    if arguments.weights:
        stored = read_binary(arguments.weights, pb.NetParameter)
        upgrade_net(stored)
        insert_weights(stored, net, added)
        write_binary(weights, stored)
    write_bytes(model, dump(net).encode())
    for name, rnns in added.items():
        print(f"{name} -> {', '.join(rnns)}")
    print(f"wrote {model}{f' and {weights}' if arguments.weights else ''}")
    return 0
