"""A trained net's files as the plain data of a report."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from crnn.experiments import attribution
from crnn.experiments.compare import difference
from crnn.experiments.evaluate import CENTRE, Evaluation, data_node
from crnn.net.net import Net
from crnn.report.content import Curve, Difference, Layer, Mistake, NetResult, Panel, Sight

SHOWN = 16  # mistakes a net


def net_result(
    name: str, about: str, net: Net, evaluations: Mapping[str, Evaluation], rows: list[dict], solver: str
) -> NetResult:
    """One net's part of a report.

    net: built for TEST; gives layers and records.    evaluations: by the name of the way of testing, the most
    telling last.    rows: of the solver's .jsonl.    solver: its text.
    """
    last = list(evaluations.values())[-1]
    return NetResult(
        name=name,
        about=about,
        accuracy={way: evaluation.top(1) for way, evaluation in evaluations.items()},
        confusion=last.confusion,
        per_class=last.per_class(),
        loss=curve((row["iter"], row["loss"]) for row in rows if row["phase"] == "train"),
        test_loss=curve((row["iter"], row["loss"]) for row in tests(rows)),
        test_accuracy=curve((row["iter"], row["outputs"]["accuracy"]) for row in tests(rows)),
        images_per_second=speed(rows),
        mistakes=mistakes(net, last),
        layers=layers(net),
        solver=solver,
    )


def tests(rows: list[dict]) -> list[dict]:
    return [row for row in rows if row["phase"] == "test" and row["net"] == 0]


def speed(rows: list[dict]) -> Curve:
    """Images per second of training; without the first iteration and intervals in which a test ran."""
    tested = {row["iter"] for row in tests(rows)}
    train = [row for row in rows if row["phase"] == "train"]
    pure = [row for row in train if row["iter"] not in {0, *tested}]
    return curve((row["iter"], row["images_per_second"]) for row in pure or train)


def curve(points: Iterable[tuple[int, float | None]]) -> Curve:
    pairs = list(points)
    return Curve([i for i, _ in pairs], [math.nan if value is None else value for _, value in pairs])


def layers(net: Net) -> list[Layer]:
    """The net's layers; a shared blob counts where it stands first, a top's batch is left out."""
    counted: set[int] = set()
    rows = []
    for node in net.nodes:
        blobs = node.layer.blobs
        own = [blobs.parameter(i) for i in range(len(blobs))]
        count = sum(blob.numel() for blob in own if id(blob) not in counted)
        counted.update(map(id, own))
        rows.append(Layer(node.layer.name, node.param.type, tuple(node.layer.top_shapes[0][1:]), count))
    return rows


def mistakes(net: Net, evaluation: Evaluation) -> list[Mistake]:
    """The most confident ones, as the net's own Data layer reads the images."""
    loader = data_node(net).layer.loader
    found = []
    for i in evaluation.mistakes(SHOWN).tolist():
        image = loader.records(i, 1)[0][0]
        predicted = int(evaluation.predicted[i])
        probability = float(evaluation.probabilities[i, predicted])
        found.append(
            Mistake(
                picture(image), str(evaluation.keys[i]), int(evaluation.labels[i]), predicted, probability
            )
        )
    return found


def picture(image: np.ndarray) -> np.ndarray:
    """A record [C, H, W] for the eye: BGR becomes RGB [H, W, 3], else the first channel, uint8."""
    image = np.clip(image, 0, 255).astype(np.uint8)
    return image[::-1].transpose(1, 2, 0) if len(image) == 3 else image[0]


def sights(
    net: Net,
    images: Tensor,
    pictures: Iterable[np.ndarray],
    titles: Iterable[tuple[str, str]],
    layer: str | None = None,
    region: tuple[int, int] | None = None,
) -> list[Sight]:
    """What each direction sees of some images; without a SpatialRNN layer, what the class's score depends on.

    images: [N, C, h, w] as the net takes them.    pictures: the same for the eye, uint8.    titles: the name
    and the answer of each.    layer, region: as `attribution.attribute` takes them.
    """
    scores = attribution.class_gradient(net, images)[0].norm(dim=1).cpu().numpy()
    found = [
        Sight(image, *title, [Panel("class score", score)])
        for image, title, score in zip(pictures, titles, scores, strict=True)
    ]
    if not attribution.layers(net) and layer is None:
        return found
    seen = attribution.attribute(net, images, layer, region)
    window = attribution.window(net, images, seen.layer, seen.region)
    pixels, regions, beyond = (part.cpu().numpy() for part in (*seen.strength(), seen.beyond()))
    for n, sight in enumerate(found):
        sight.layer, sight.line_break, sight.region = seen.layer, seen.line_break, seen.region
        sight.window = window
        for k, name in enumerate((*seen.directions, "sum")):
            sight.panels.append(Panel(name, pixels[n, k], regions[n, k], float(beyond[n, k])))
    return found


def examples(net: Net, evaluation: Evaluation, classes: Sequence[str], count: int = 3) -> list[Sight]:
    """What each direction sees of `count` right records, each of another class, and of as many wrong ones.

    net: trained, of phase TEST.    evaluation: of its records, from 1 view.
    """
    first = {int(evaluation.labels[i]): i for i in reversed(np.flatnonzero(evaluation.correct).tolist())}
    chosen = [*sorted(first.values())[:count], *evaluation.mistakes(count).tolist()]
    loader = data_node(net).layer.loader
    records = [loader.records(i, 1)[0][0] for i in chosen]
    answers = [
        f"{classes[evaluation.predicted[i]]} {100 * evaluation.probabilities[i].max():.1f}\u00a0%"
        + (f", not {classes[evaluation.labels[i]]}" if i not in first.values() else "")
        for i in chosen
    ]
    images = torch.from_numpy(loader.transformer.view(records, CENTRE)).to(net.like)
    pictures = map(picture, loader.transformer.crop(records, CENTRE))
    return sights(net, images, pictures, zip(evaluation.keys[chosen].tolist(), answers, strict=True))


def compared(way: str, names: Sequence[str], first: Evaluation, second: Evaluation) -> Difference:
    """First minus second on the same records, with how the interval was found."""
    if first.keys.tolist() != second.keys.tolist():
        raise ValueError(f"{names[0]} and {names[1]} were tested on different records: test both again")
    d = difference(first.correct, second.correct)
    p = f"p = {d.p:.2g}" if d.p > 1e-4 else "p < 0.0001"
    text = (
        f"Of {len(first.labels):,} records {d.first_only} are right by {names[0]} alone, {d.second_only} by "
        f"{names[1]} alone. The interval is the normal one of this paired difference; exact McNemar test: "
        f"{p}. It speaks of these two trained nets; other random seeds move both."
    )
    return Difference(way, d.value, d.low, d.high, text)
