"""anytime: every answer a trained net can give, with its accuracy, multiply-adds and seconds."""

import argparse
import sys
from pathlib import Path

from crnn.experiments.anytime import measure, save
from crnn.net.net import Net
from crnn.tools import flags

EPILOG = """\
example:
  crnn anytime --model train_val.prototxt --weights srnn_iter_325000.caffemodel --save anytime.json

An answer is what a SoftmaxWithLoss or Accuracy layer reads. It is timed with the layers that it needs alone:
of an SRNN whose classifier reads every state, the scales up to that state. All records of the TEST Data layer
are seen once, from the centre. Multiply-adds are those of products with weights; seconds those of the data
layer's batches, the median, reading left out."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn anytime",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="the net prototxt")
    parser.add_argument("--weights", required=True, metavar="A,B", help="weights, in this order")
    parser.add_argument("--gpu", metavar="ID", help="a CUDA device; without it the CPU")
    parser.add_argument("--save", type=Path, metavar="FILE", help="the figures as JSON")
    return parser


def main(argv: list[str]) -> int:
    from tqdm import tqdm

    arguments = parser().parse_args(flags.normalise(argv))
    net = Net(arguments.model, phase="TEST", weights=arguments.weights).to(flags.device(arguments.gpu))
    with tqdm(unit=" images", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        flags.check_out("--save", arguments.save)
        points = measure(net, progress)
    print(f"{'answer':<24}{'million multiply-adds':>24}{'ms an image':>14}{'top-1 accuracy':>18}")
    for point in points:
        million, ms = f"{point.multiply_adds / 1e6:,.2f}", f"{point.seconds * 1000:,.3f}"
        print(f"{point.blob:<24}{million:>24}{ms:>14}{100 * point.accuracy:>16.2f} %")
    if arguments.save:
        save(arguments.save, points)
    return 0
