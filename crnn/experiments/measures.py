"""The measures that an experiment may ask for, by name, and the files that they read."""

import zipfile
from collections.abc import Callable
from typing import NamedTuple

from crnn.experiments.evaluate import Evaluation
from crnn.experiments.label_paths import LabelPaths
from crnn.experiments.segment import Segmentation

Scores = Evaluation | Segmentation | LabelPaths
DEEPEST = 9  # level that has a measure: Guo 2018's deepest tree, ImageNet 2012


class Measure(NamedTuple):
    """`of`: a share of 1, from what `reads` names."""

    title: str
    of: Callable[[Scores], float]
    reads: tuple[type, ...]


def _level(level: int) -> Measure:
    return Measure(f"level {level} accuracy", lambda scores: scores.level_accuracy(level), PATHS)


LABELS, MAPS, PATHS = (Evaluation,), (Segmentation,), (LabelPaths,)
MEASURES = {
    "top1_error": Measure("top-1 error", lambda scores: 1 - scores.top(1), LABELS),
    "top5_error": Measure("top-5 error", lambda scores: 1 - scores.top(5), LABELS),
    "top1_accuracy": Measure("top-1 accuracy", lambda scores: scores.top(1), LABELS),
    "top5_accuracy": Measure("top-5 accuracy", lambda scores: scores.top(5), LABELS),
    "mean_class_accuracy": Measure(
        "mean class accuracy", lambda scores: scores.mean_class_accuracy, LABELS + MAPS
    ),
    "mean_iou": Measure("mean IoU", lambda scores: scores.mean_iou, MAPS),
    "pixel_accuracy": Measure("pixel accuracy", lambda scores: scores.pixel_accuracy, MAPS),
    **{f"level{level}_accuracy": _level(level) for level in range(1, DEEPEST + 1)},
    "fine_accuracy": Measure("fine accuracy", lambda scores: scores.fine_accuracy, PATHS),
    "path_accuracy": Measure("path accuracy", lambda scores: scores.path_accuracy, PATHS),
    "consistency": Measure("consistency", lambda scores: scores.consistency, PATHS),
}
#: An array that only one kind's file has.
MARKS = {"truth.npy": Segmentation, "sequences.npy": LabelPaths}


def score(scores: Scores, measure: str) -> float:
    """In percent. Raises ValueError where the measure is not one of such scores."""
    one = MEASURES[measure]
    if not isinstance(scores, one.reads):
        kinds = {LABELS: "a label an image", MAPS: "label maps", PATHS: "label paths"}
        raise ValueError(
            f"{measure} is of {kinds[one.reads]}, the net was tested on {kinds[(type(scores),)]}"
        )
    return 100 * one.of(scores)


def load(path) -> Scores:
    """What `crnn test --save` wrote, whichever it is."""
    if not zipfile.is_zipfile(path):
        return Evaluation.load(path)  # which says what is wrong
    with zipfile.ZipFile(path) as file:
        kinds = [kind for mark, kind in MARKS.items() if mark in file.namelist()]
    return (kinds or [Evaluation])[0].load(path)
