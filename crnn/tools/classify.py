"""classify: names what is on images, and draws what each direction of the net sees of them."""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from crnn.data.label_tree import read_tree
from crnn.data.transformer import Transformer
from crnn.experiments import attribution
from crnn.experiments.evaluate import CENTRE, check_scores, feed, predict, score_blob
from crnn.experiments.label_paths import speaker
from crnn.net.graph import is_included, net_state
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import parse
from crnn.proto.upgrade import read_net
from crnn.tools import flags, images

EXAMPLES = """examples:
  crnn classify deploy.prototxt x.caffemodel cat.jpg --mean mean.binaryproto --labels synset_words.txt
  crnn classify deploy.prototxt x.caffemodel photos/ --mean 104,117,123 --views 10 --json
  crnn classify train_val.prototxt x.caffemodel cat.jpg     # its Data layer says mean, scale and crop
  crnn classify deploy.prototxt cnn7-rnn.caffemodel photos/ --mean mean.binaryproto --tree tree.txt

Preparation is Caffe's: BGR (or grey, if the net takes one channel), 0 to 255, warped to --resize, less the
mean, times --scale; then the centre crop of the net's input size, or ten views whose softmax outputs are
averaged.

The pictures are of the centre crop. For each direction of a SpatialRNN layer they show the gradient of one
region's state with respect to the image, through all steps of the scan (also those at which training with
line_break carry_value cuts it)."""

BATCH = 16  # images at a time
DRAWN = 20  # images at most in the page


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn classify",
        description="Name what is on images, and draw what each direction of the net sees of them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("net", metavar="NET", help="deploy.prototxt, or a train_val whose database is here")
    parser.add_argument("weights", metavar="WEIGHTS", help=".caffemodel; several as A,B")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, or folders of them")
    parser.add_argument(
        "--labels", metavar="FILE", help="names of the classes, one a line (synset_words.txt)"
    )
    parser.add_argument("--mean", metavar="FILE|B,G,R", help="mean.binaryproto, or a value for each channel")
    parser.add_argument("--scale", type=float, help="times this, after the mean (default 1)")
    parser.add_argument(
        "--resize",
        type=size,
        metavar="N|HxW",
        help="warp to this size before cropping (default: the mean file's; else 256 for a net of 224 to 256 "
        "pixels, the net's own size for others)",
    )
    parser.add_argument("--views", type=int, choices=(1, 10), default=1, help="10: corners, centre and flips")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="print the N likeliest (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--html",
        default="classify.html",
        metavar="FILE",
        help=f"the page of pictures, of the first {DRAWN} images (default classify.html)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="classify only: no gradients, no page")
    parser.add_argument("--layer", metavar="NAME", help="the SpatialRNN layer (default: the last)")
    parser.add_argument(
        "--region", type=pair, metavar="I,J", help="row and column on its map, from 0 (default: the centre)"
    )
    parser.add_argument("--tree", metavar="FILE", help="print label paths of this tree; no pictures")
    parser.add_argument(
        "--decode",
        metavar="TEXT",
        help="with --tree: how paths are found; TEXT has fields of DecodeParameter",
    )
    parser.add_argument("--gpu", metavar="ID", help="a CUDA device; without it the CPU")
    return parser


def size(text: str) -> tuple[int, int]:
    """argparse type: "256" or "240x320" as (height, width)."""
    parts = [int(part) for part in text.lower().split("x")]
    if len(parts) > 2 or min(parts) < 1:
        raise ValueError
    return parts[0], parts[-1]


def pair(text: str) -> tuple[int, int]:
    """argparse type: "2,3"."""
    i, j = (int(part) for part in text.split(","))
    return i, j


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(flags.normalise(argv, ("json", "no-pictures")))
    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, got {arguments.top}")
    paths, net = images.files(arguments.images), load(arguments)
    transformer = images.preparation(net, arguments)
    if arguments.tree is not None:
        return print_paths(net, transformer, paths, arguments)
    if arguments.decode is not None:
        raise ValueError("--decode is of label paths: give their --tree")
    labels = read_labels(arguments.labels, net.shapes[score_blob(net)[0]][1])
    if not arguments.no_pictures:
        check_pictures(net, arguments)
    results, sights = [], []
    silent = not (arguments.json and sys.stderr.isatty())  # text shows the progress itself
    batches = images.Batches(paths, transformer.shape, BATCH)
    for batch, pixels in tqdm(batches, unit="batch", disable=silent, leave=False):
        scores = predict(net, transformer, pixels, arguments.views)
        check_scores(scores, batch)
        found = [result(*pair, labels, arguments) for pair in zip(batch, scores, strict=True)]
        if not arguments.no_pictures:
            count = max(DRAWN - len(results), 0)
            sights += look(net, transformer, pixels[:count], found[:count], arguments)
        if not arguments.json:
            print("\n".join(map(text, found)), flush=True)
        results += found
    if arguments.json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
    if sights:
        save(arguments, sights, len(results))
    return 1 if batches.failed else 0


@torch.no_grad()
def print_paths(net: Net, transformer: Transformer, paths: list[Path], arguments) -> int:
    """A line an image, or JSON: the labels from coarse to fine."""
    way = parse(arguments.decode or "", pb.DecodeParameter, "--decode").message
    if arguments.views > 1 or way.given:
        raise ValueError("label paths are said of 1 view, and no label of an image is given")
    tree, results = read_tree(arguments.tree), []
    sequences, speak = speaker(net, tree, way)
    batches = images.Batches(paths, transformer.shape, BATCH)
    for batch, pixels in batches:
        feed(net, transformer.view(pixels, CENTRE))
        for path, said in zip(batch, speak(sequences[[0] * len(batch)]).tolist(), strict=True):
            labels = [tree.name(category) for category in said if category >= 0 and category != tree.end]
            results.append({"image": str(path), "path": labels})
            if not arguments.json:
                print(f"{path}: {' → '.join(labels)}", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1, ensure_ascii=False))
    return 1 if batches.failed else 0


def load(arguments) -> Net:
    """The net with its weights. Raises ValueError if these do not cover it: its answers were noise."""
    document = read_net(arguments.net)
    state = net_state(document.message, pb.TEST)
    for layer in document.message.layer:
        source = layer.data_param.source
        if layer.type == "Data" and not os.path.exists(source) and is_included(state, layer):
            raise ValueError(
                f"{arguments.net} reads the database {source!r}, which is not here: give its deploy"
            )
    net = Net(document, phase="TEST", weights=arguments.weights)
    if net.load_report.filled:
        lacking = ", ".join(net.load_report.filled)
        raise ValueError(
            f"{arguments.weights} has no weights for {lacking} of {arguments.net}: do they belong?"
        )
    return net.to(flags.device(arguments.gpu))


def read_labels(path: str | None, classes: int) -> list[str]:
    """The classes' names; without a file their numbers."""
    if path is None:
        return [f"class {i}" for i in range(classes)]
    labels = flags.text_lines(path)
    if len(labels) != classes:
        raise ValueError(
            f"{path} has {len(labels)} lines, the net has {classes} classes: one a line is wanted"
        )
    return labels


def result(path: Path, probabilities: np.ndarray, labels: list[str], arguments) -> dict:
    """The answer for one image, as --json prints it."""
    best = np.argsort(-probabilities, kind="stable")[: arguments.top].tolist()
    answers = [{"class": i, "label": labels[i], "probability": float(probabilities[i])} for i in best]
    return {"image": str(path), "views": arguments.views, "predictions": answers}


def look(net: Net, transformer: Transformer, pixels: np.ndarray, found: list[dict], arguments) -> list:
    """What the directions see of the images' centres, as Sights; `found` learns it too."""
    if not len(pixels):
        return []
    from crnn.experiments import results  # needs matplotlib

    top = torch.from_numpy(transformer.view(pixels, CENTRE)).to(net.like)
    pictures = map(results.picture, transformer.crop(pixels, CENTRE))
    titles = [(one["image"], "\n".join(lines(one))) for one in found]
    sights = results.sights(net, top, pictures, titles, arguments.layer, arguments.region)
    for one, sight in zip(found, sights, strict=True):
        panels = [panel for panel in sight.panels if panel.regions is not None]
        if panels:
            one["sees"] = {
                "layer": sight.layer,
                "region": sight.region,
                "line_break": sight.line_break,
                "beyond": {panel.name: panel.beyond for panel in panels},
                "regions": {panel.name: panel.regions.tolist() for panel in panels},
            }
    return sights


def lines(one: dict) -> list[str]:
    """The answers as Caffe prints them (examples/cpp_classification)."""
    return [f'{answer["probability"]:.4f} - "{answer["label"]}"' for answer in one["predictions"]]


def text(one: dict) -> str:
    rows = [f"---------- Prediction for {one['image']} ----------", *lines(one)]
    if sees := one.get("sees"):
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in sees["beyond"].items())
        i, j = sees["region"]
        rows.append(f"layer {sees['layer']} at region {i},{j} sees beyond it: {shares}")
    return "\n".join(rows) + "\n"


def check_pictures(net: Net, arguments) -> None:
    """Raises ValueError now for what would fail after the work."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib: install crnn[report], or give --no-pictures")
    if attribution.layers(net) or arguments.layer:
        attribution.region_of(attribution.find(net, arguments.layer), arguments.region)
    flags.check_out("--html", arguments.html)


def save(arguments, sights: list, count: int) -> None:
    from crnn.report import write_sights

    summary = (
        f"{arguments.net} with {arguments.weights}, {arguments.views} view{'s' * (arguments.views > 1)}."
    )
    if len(sights) < count:
        summary += f" The first {len(sights)} of {count} images."
    write_sights(arguments.html, "crnn classify", summary, sights)
    print(f"pictures: {arguments.html}", file=sys.stderr)
