"""test: scores a trained net, as `caffe test` does, or exactly over all records with 1 or 10 views."""

import argparse
import math
import sys

import torch

from crnn.data.label_tree import read_tree
from crnn.experiments.evaluate import Evaluation, evaluate
from crnn.experiments.label_paths import LabelPaths, say
from crnn.experiments.segment import Segmentation, has_maps, segment
from crnn.host_memory import keep_freed
from crnn.net import debug_info, weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import write_bytes
from crnn.proto.text import parse
from crnn.solver.events import Note, Output, outputs_of
from crnn.solver.log import GlogLines, number, with_loss
from crnn.solver.ranks import bad_images
from crnn.tools import flags

EXAMPLES = """examples:
  crnn test -model train_val.prototxt -weights crnn_iter_450000.caffemodel -iterations 1000
  crnn test -model train_val.prototxt -weights crnn_iter_450000.caffemodel --all --views 10
  crnn test -model fcn8s.prototxt -weights fcn8s.caffemodel --all --crf "iterations: 5"
  crnn test -model rnn.prototxt -weights rnn.caffemodel --all --tree tree.txt --decode "beam: 5 valid: true"

Without --all the first ITERATIONS batches are run and averaged, as Caffe does; with it every record of the
TEST Data layer counts exactly once. Of a net with label maps (data_param.label_source) every pixel counts
once, but those of label 255. With a label tree (crnn data tree) the label paths are scored, level by level:
those that the net makes, or of a net that says one label an image, that label's."""

OF_ALL = ("save", "confusion", "crf", "tree", "decode")  # flags


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
    parser.add_argument(
        "--crf",
        nargs="?",
        const="",
        metavar="TEXT",
        help="label maps: refine the answers by a dense CRF; TEXT has fields of CrfParameter",
    )
    parser.add_argument("--tree", metavar="FILE", help="with --all: the tree of the label paths to score")
    parser.add_argument(
        "--decode", metavar="TEXT", help="label paths: how they are found; TEXT has fields of DecodeParameter"
    )
    parser.add_argument("--labels", metavar="FILE", help="label maps: the classes' names, one a line")
    return parser


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(flags.normalise(argv))
    keep_freed()
    device = flags.device(arguments.gpu)
    log = GlogLines(sys.stderr)
    options = {"phase": "TEST", "stages": tuple(arguments.stage), "level": arguments.level}
    exactly = arguments.all or arguments.views > 1
    net = (
        Net(arguments.model, **options)
        if exactly
        else debug_info.as_told(arguments.model, log.line, **options)
    )
    net.to(device)
    log(Note("caffe.cpp:275", flags.device_note(device)))
    report = weights.load(net, ",".join(arguments.weights))
    if report.filled:  # layers without trained weights: the scores mean little
        log(Note("weights.py", str(report)))
    if exactly:
        exact(net, arguments)
    elif flag := next((f for f in OF_ALL if getattr(arguments, f) is not None), None):
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
    for bad in bad_images(net):
        for line in [*bad.news(), *([bad.summary()] if bad.counts else [])]:
            log(Note("bad_images.py", line, severity="W"))
    log(Note("caffe.cpp:309", f"Loss: {number(loss / iterations)}"))
    for total, output in zip(sums, values, strict=True):
        log(Note("caffe.cpp:321", with_loss(Output(output.name, total / iterations, output.weight))))


def exact(net: Net, arguments: argparse.Namespace) -> None:
    """Prints the exact scores over all records, and saves what they are made of."""
    from tqdm import tqdm

    flags.check_out("--save", arguments.save)
    flags.check_out("--confusion", arguments.confusion)
    names = flags.text_lines(arguments.labels) if arguments.labels else None
    with tqdm(unit=" images", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        if arguments.tree is not None:
            if arguments.views > 1 or arguments.confusion is not None or arguments.crf is not None:
                raise ValueError("label paths are tested with 1 view, and have no --confusion and no --crf")
            way = parse(arguments.decode or "", pb.DecodeParameter, "--decode").message
            result = say(net, read_tree(arguments.tree), way, progress)
        elif arguments.decode is not None:
            raise ValueError("--decode is of label paths: give their --tree")
        elif has_maps(net):
            if arguments.views > 1:
                raise ValueError("label maps are tested with 1 view: remove --views")
            result = segment(net, crf_of(arguments.crf), progress)
        elif arguments.crf is not None:
            raise ValueError(f"--crf is of label maps, net {net.name!r} has a label an image")
        else:
            result = evaluate(net, arguments.views, progress)
    if isinstance(result, Evaluation):
        print_classes(result)
    elif isinstance(result, LabelPaths):
        print_paths(result)
    else:
        fit = names is None or len(names) == result.classes
        print_maps(result, names if fit else None)
    if arguments.save:
        result.save(arguments.save)
    if arguments.confusion:
        rows = [",".join(map(str, row)) for row in result.confusion.tolist()]
        write_bytes(arguments.confusion, "".join(f"{row}\n" for row in rows).encode())
    if isinstance(result, Segmentation) and not fit:  # said when all is printed and saved
        raise ValueError(f"{arguments.labels} has {len(names)} names, the net {result.classes} classes")


def crf_of(text: str | None) -> pb.CrfParameter | None:
    """The CrfParameter of --crf. Raises PrototxtError with the place of a mistake."""
    return None if text is None else parse(text, pb.CrfParameter, "--crf").message


def print_classes(result: Evaluation) -> None:
    views = f"{result.views} view{'s' if result.views > 1 else ''}"
    print(f"{len(result.labels)} records, {views}, {result.classes} classes")
    for k in (1, 5):
        if k < result.classes:
            print(f"top-{k} accuracy {100 * result.top(k):.2f} %")
    print(f"mean class accuracy {100 * result.mean_class_accuracy:.2f} %")


def print_paths(result: LabelPaths) -> None:
    """Each level's accuracy, then the measures of the whole path; a dash where the net says nothing."""
    labels = len(result.sequences)
    print(f"{len(result.labels)} records, {labels} labels below {result.inner} categories")
    rows = [(f"level {i}", result.level_accuracy(i)) for i in range(1, result.levels + 1)]
    rows += [("fine", result.fine_accuracy), ("path", result.path_accuracy)]
    for name, share in rows:
        print(f"{name} accuracy {percent(share)}")
    print(f"consistency {percent(result.consistency)}")


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"


def print_maps(result: Segmentation, names: list[str] | None) -> None:
    """The measures of a Segmentation, then a line a class."""
    print(f"{len(result.keys)} records, {result.confusion.sum():,} pixels, {result.classes} classes")
    print(f"mean IoU {100 * result.mean_iou:.2f} %")
    print(f"pixel accuracy {100 * result.pixel_accuracy:.2f} %")
    print(f"mean class accuracy {100 * result.mean_class_accuracy:.2f} %")
    print(f"{'class':<16}{'IoU':>9}{'accuracy':>11}{'pixels':>14}")
    pixels = result.confusion.sum(1)
    for i, (iou, right) in enumerate(zip(result.iou(), result.per_class(), strict=True)):
        name = names[i] if names else str(i)
        print(f"{name:<16}{100 * iou:>7.2f} %{100 * right:>9.2f} %{pixels[i]:>14,}")
