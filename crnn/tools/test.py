"""test: scores a trained net, as `caffe test` does, or exactly over all records with 1 or 10 views."""

import argparse
import sys

import torch

from crnn.net import weights
from crnn.net.net import Net
from crnn.proto.blobs import write_bytes
from crnn.solver.events import Note, Output, outputs_of
from crnn.solver.log import GlogLines, number, with_loss
from crnn.tools import flags

EXAMPLES = """examples:
  crnn test -model train_val.prototxt -weights crnn_iter_450000.caffemodel -iterations 1000
  crnn test -model train_val.prototxt -weights crnn_iter_450000.caffemodel --all --views 10

Without --all the first ITERATIONS batches are run and averaged, as Caffe does; with it every record of the
TEST Data layer counts exactly once."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn test",
        description="Score a trained net in its TEST phase.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, metavar="FILE", help="the net prototxt")
    parser.add_argument(
        "--weights",
        required=True,
        type=flags.comma_list,
        metavar="A,B",
        help=".caffemodel files, in this order",
    )
    parser.add_argument("--iterations", type=int, default=50, help="batches to run (default 50)")
    parser.add_argument("--gpu", metavar="ID", help="a CUDA device; without it the CPU")
    parser.add_argument("--level", type=int, default=0, help="level of the net's state")
    parser.add_argument(
        "--stage", type=flags.comma_list, default=[], metavar="A,B", help="stages of the net's state"
    )
    parser.add_argument("--all", action="store_true", help="every record once, instead of batches")
    parser.add_argument(
        "--views",
        type=int,
        choices=(1, 10),
        default=1,
        help="10: corners, centre and their flips; implies --all",
    )
    parser.add_argument("--save", metavar="FILE", help="with --all: all scores as an .npz")
    parser.add_argument(
        "--confusion",
        metavar="FILE",
        help="with --all: counts as CSV, a row a true class, a column an answer",
    )
    return parser


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(flags.normalise(argv))
    device = flags.device(arguments.gpu)
    net = Net(arguments.model, phase="TEST", stages=tuple(arguments.stage), level=arguments.level).to(device)
    log = GlogLines(sys.stderr)
    log(Note("caffe.cpp:275", flags.device_note(device)))
    report = weights.load(net, ",".join(arguments.weights))
    if report.filled:  # layers without trained weights: the scores mean little
        log(Note("weights.py", str(report)))
    if arguments.all or arguments.views > 1:
        exact(net, arguments.views, arguments.save, arguments.confusion)
    elif arguments.save or arguments.confusion:
        flag = "save" if arguments.save else "confusion"
        raise ValueError(f"--{flag} is of all records: give --all or --views 10 with it")
    else:
        batches(net, arguments.iterations, log)
    return 0


@torch.no_grad()
def batches(net: Net, iterations: int, log: GlogLines) -> None:
    """Caffe's test: every output of every batch, then the means."""
    if iterations < 1:
        raise ValueError(f"-iterations must be at least 1, got {iterations}")
    log(Note("caffe.cpp:281", f"Running for {iterations} iterations."))
    loss, sums = 0.0, []
    for i in range(iterations):
        values = outputs_of(net, net())
        for output in values:
            log(Note("caffe.cpp:304", f"Batch {i}, {output.name} = {number(output.value)}"))
        sums = [a + b.value for a, b in zip(sums or [0.0] * len(values), values, strict=True)]
        loss += float(net.loss()) if net.loss_weights else 0.0
    log(Note("caffe.cpp:309", f"Loss: {number(loss / iterations)}"))
    for total, output in zip(sums, values, strict=True):
        log(Note("caffe.cpp:321", with_loss(Output(output.name, total / iterations, output.weight))))


def exact(net: Net, views: int, save: str | None, confusion: str | None) -> None:
    """Prints the exact scores over all records, and saves what they are made of."""
    from tqdm import tqdm

    from crnn.experiments.evaluate import evaluate

    with tqdm(unit=" images", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = evaluate(net, views, progress)
    classes = result.probabilities.shape[1]
    print(f"{len(result.labels)} records, {views} view{'s' if views > 1 else ''}, {classes} classes")
    for k in (1, 5):
        if k < classes:
            print(f"top-{k} accuracy {100 * result.top(k):.2f} %")
    print(f"mean class accuracy {100 * result.mean_class_accuracy:.2f} %")
    if save:
        result.save(save)
    if confusion:
        rows = [",".join(map(str, row)) for row in result.confusion.tolist()]
        write_bytes(confusion, "".join(f"{row}\n" for row in rows).encode())
