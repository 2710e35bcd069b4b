"""svm: a linear SVM on a blob of a trained net, for data the net was not trained on."""

import argparse
import json
import sys
from pathlib import Path

from crnn.experiments.features import collect, reading_training_data
from crnn.experiments.steps import scores_of
from crnn.experiments.svm import Svm, evaluate, installed
from crnn.net.net import Net
from crnn.proto.blobs import write_bytes
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net
from crnn.tools import flags

EPILOG = """\
example:
  crnn svm --model sun397/train_val.prototxt --weights crnn_iter_450000.caffemodel --blob fc7 --save runs/svm

Trains on the database of the net's TRAIN Data layer, each record's centre view, and tests on that of its TEST
Data layer; with 10 views the classes' scores are averaged. Features are standardised (mean 0, variance 1 of
each dimension over the training records); C is chosen by cross-validation on the training records. Writes
DIR/views_1.npz (as crnn test --save) and DIR/svm.json. Wants scikit-learn: pip install crnn[svm]."""


def _numbers(kind):
    return lambda text: [kind(word) for word in text.split(",")]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn svm",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="net prototxt with both Data layers")
    parser.add_argument("--weights", required=True, metavar="FILE", help=".caffemodel")
    parser.add_argument("--blob", required=True, help="whose values are the features, as fc7")
    parser.add_argument(
        "--c",
        type=_numbers(float),
        default=[1e-4, 1e-3, 1e-2, 1e-1],
        metavar="A,B",
        help="tried (default 1e-4 to 0.1)",
    )
    parser.add_argument(
        "--folds", type=int, default=5, metavar="N", help="of the cross-validation (default 5)"
    )
    parser.add_argument(
        "--views", type=_numbers(int), default=[1], metavar="1,10", help="of each test record"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the folds and the solver (default 1)"
    )
    parser.add_argument("--save", required=True, type=Path, metavar="DIR")
    parser.add_argument("--gpu", metavar="ID", help="a CUDA device for the net; without it the CPU")
    return parser


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(flags.normalise(argv))
    device = flags.device(arguments.gpu)
    if not set(arguments.views) <= {1, 10}:
        raise ValueError(f"--views are 1 or 10, got {arguments.views}")
    if min(arguments.c) <= 0 or arguments.folds < 2:
        raise ValueError("every --c must be positive, and --folds at least 2")
    installed()  # said now, not after the features
    arguments.save.mkdir(parents=True, exist_ok=True)
    message = read_net(arguments.model).message
    net = Net(dump(reading_training_data(message)), phase="TEST", weights=arguments.weights).to(device)
    with Bar("training features") as progress:
        x, labels = collect(net, arguments.blob, progress)
    svm = Svm.train(x, labels, arguments.c, arguments.folds, arguments.seed)
    for c, accuracy in svm.accuracies.items():
        print(f"C = {c:g}: accuracy {100 * accuracy:.2f} % in {arguments.folds} folds")
    print(f"C = {svm.c:g}, {x.shape[1]} features of {x.shape[0]} records")
    net = Net(dump(message), phase="TEST", weights=arguments.weights).to(device)
    chosen = {"c": svm.c, "accuracies": svm.accuracies, "folds": arguments.folds, "blob": arguments.blob}
    write_bytes(arguments.save / "svm.json", json.dumps(chosen, indent=1).encode())
    for views in arguments.views:
        with Bar("test features") as progress:
            result = evaluate(svm, net, arguments.blob, views, progress)
        print(f"{len(result.labels)} records, {views} views: top-1 accuracy {100 * result.top(1):.2f} %")
        result.save(scores_of(arguments.save, views))
    return 0


class Bar:
    """A tqdm bar as a context, updated by (done, total)."""

    def __init__(self, what: str):
        from tqdm import tqdm

        self.bar = tqdm(desc=what, unit=" images", disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self):
        return self._update

    def __exit__(self, *error):
        self.bar.close()

    def _update(self, done: int, total: int) -> None:
        self.bar.total = total
        self.bar.update(done - self.bar.n)
