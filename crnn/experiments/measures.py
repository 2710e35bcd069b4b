"""The measures that an experiment may ask for, by name."""

from collections.abc import Callable
from typing import NamedTuple

from crnn.experiments.evaluate import Evaluation
from crnn.experiments.segment import Segmentation

Scores = Evaluation | Segmentation


class Measure(NamedTuple):
    """`of`: a share of 1, from what `reads` names."""

    title: str
    of: Callable[[Scores], float]
    reads: tuple[type, ...]


LABELS, MAPS = (Evaluation,), (Segmentation,)
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
}


def score(scores: Scores, measure: str) -> float:
    """In percent. Raises ValueError where the measure is not one of such scores."""
    one = MEASURES[measure]
    if not isinstance(scores, one.reads):
        kinds = {LABELS: "a label an image", MAPS: "label maps"}
        raise ValueError(
            f"{measure} is of {kinds[one.reads]}, the net was tested on {kinds[(type(scores),)]}"
        )
    return 100 * one.of(scores)
