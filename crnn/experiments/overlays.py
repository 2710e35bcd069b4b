"""Predictions of segmentation nets drawn over their images, for the report."""

from collections.abc import Sequence

import numpy as np

from crnn.data.records import Records
from crnn.data.transformer import Transformer
from crnn.data.warp import VOID
from crnn.experiments.checks import data_are_here
from crnn.experiments.evaluate import CENTRE
from crnn.experiments.jobs import Job
from crnn.experiments.results import picture
from crnn.experiments.segment import Segmentation
from crnn.proto import pb
from crnn.report.comparison import Overlay

SHOWN = 6  # images
STRENGTH = 0.6  # of a class's colour over the image


def overlays(jobs: Sequence[Job]) -> list[Overlay]:
    """Some test images with the truth and the answers of `jobs`, which are of one seed and the same records.

    They are spread over the records by how well the last job does on them, from the best to the worst. None
    on a machine without the data.
    """
    if not jobs or 1 not in jobs[0].experiment.message.views:  # maps are answered from one view
        return []
    if not isinstance(jobs[0].scores(1), Segmentation) or not data_are_here(jobs[-1]):
        return []
    scores = [job.scores(1) for job in jobs]
    last, records = scores[-1], shown_images(jobs[-1])
    order = np.argsort([-accuracy(last, i) for i in range(len(last.keys))], kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(SHOWN, len(order))).astype(int)]
    found = []
    for i in chosen.tolist():
        image = picture(records(i))
        panels = [("image", image), ("truth", drawn(image, last.truth[i]))]
        panels += [
            (f"{job.name}: {100 * accuracy(one, i):.1f} %", drawn(image, one.predicted[i]))
            for job, one in zip(jobs, scores, strict=True)
        ]
        found.append(Overlay(str(last.keys[i]), panels))
    return found


def accuracy(scores: Segmentation, i: int) -> float:
    """The share of image i's pixels that are right."""
    counts = scores.confusion_of(i)
    return float(counts.diagonal().sum() / max(counts.sum(), 1))


def shown_images(job: Job):
    """A function of a record's number: the pixels [C, h, w] that the job's net sees in the test."""
    net = job.experiment.net_text(job.net)
    (layer,) = [
        one
        for one in net.layer
        if one.type == "Data" and (not one.include or one.include[0].phase == pb.TEST)
    ]
    source = Records(layer.data_param.source)
    form = pb.TransformationParameter(crop_size=layer.transform_param.crop_size)
    transformer = Transformer(form, pb.TEST, source.shape)
    return lambda i: transformer.crop(source.batch(i, 1)[0], CENTRE)[0]


def drawn(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """uint8 RGB [h, w, 3]: each class's colour over the image, nothing where a pixel does not count."""
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    mixed = (1 - STRENGTH) * rgb + STRENGTH * PALETTE[labels]
    return np.where((labels == VOID)[..., None], rgb, mixed).astype(np.uint8)


def _palette() -> np.ndarray:
    """uint8 RGB [256, 3], VOC's colours: the bits of a class, three by three, from the high bits down."""
    classes, colours = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(24):
        colours[:, bit % 3] |= ((classes >> bit & 1) << (7 - bit // 3)).astype(np.uint8)
    return colours


PALETTE = _palette()
