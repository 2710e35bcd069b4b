"""A segmentation net's exact scores on a database of images and label maps: every pixel once.

Intersection over union of a class: the pixels that are of it and were taken for it, divided by those that are
of it or were taken for it, over all images together (VOC 2012's measure). Pixels of 255 count nowhere.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from crnn.data.transformer import Transformer
from crnn.data.warp import VOID
from crnn.experiments.crf import refine
from crnn.experiments.evaluate import CENTRE, data_node, feed, keys_of, score_blob
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import write_bytes
from crnn.proto.npz import read_npz


@dataclass(frozen=True)
class Segmentation:
    """A class for every pixel of N images, of `classes` classes.

    predicted, truth: uint8 [N, h, w]; truth is 255 where a pixel does not count.    keys: str [N], from the
    database.
    """

    predicted: np.ndarray
    truth: np.ndarray
    keys: np.ndarray
    classes: int

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64 [n, n], how many pixels of class i (row) were taken for class j (column)."""
        return sum(map(self.confusion_of, range(len(self.keys))), np.zeros((self.classes,) * 2, np.int64))

    def confusion_of(self, i: int) -> np.ndarray:
        """That of image i alone."""
        counted = self.truth[i] != VOID
        pairs = self.truth[i][counted].astype(np.int64) * self.classes + self.predicted[i][counted]
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    def iou(self) -> np.ndarray:
        """float64 [n], of each class; nan for one that no pixel is of and none was taken for."""
        hits = self.confusion.diagonal()
        return _shares(hits, self.confusion.sum(0) + self.confusion.sum(1) - hits)

    def per_class(self) -> np.ndarray:
        """float64 [n], the share of each class's pixels that are right; nan for a class without pixels."""
        return _shares(self.confusion.diagonal(), self.confusion.sum(1))

    @property
    def mean_iou(self) -> float:
        return float(np.nanmean(self.iou()))

    @property
    def mean_class_accuracy(self) -> float:
        return float(np.nanmean(self.per_class()))

    @property
    def pixel_accuracy(self) -> float:
        return float(self.confusion.diagonal().sum() / max(self.confusion.sum(), 1))

    def save(self, path) -> None:
        """Writes a .npz, whole or not at all."""
        file = io.BytesIO()
        arrays = {"predicted": self.predicted, "truth": self.truth, "keys": self.keys}
        np.savez_compressed(file, **arrays, classes=self.classes)
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path) -> "Segmentation":
        """Reads what `save` wrote. ValueError for another file, OSError if it cannot be read."""
        try:
            file = read_npz(path)
            return cls(file["predicted"], file["truth"], file["keys"], int(file["classes"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no segmentation ({error}): remove it and test again") from None


def _shares(hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    return np.divide(hits, total, out=np.full(len(hits), np.nan), where=total > 0)


def has_maps(net: Net) -> bool:
    """Whether the labels of the net's Data layer are maps."""
    return data_node(net).layer.loader.source.maps is not None


@torch.no_grad()
def segment(
    net: Net,
    crf: pb.CrfParameter | None = None,
    progress: Callable[[int, int], None] | None = None,
    records: range | None = None,
) -> Segmentation:
    """Answers for `records` (default: all) of the net's own Data layer, the centre of each.

    The net is one of phase TEST whose scores are maps [N, n, h, w] as large as the labels'; with `crf` their
    softmax is refined by it. `progress(done, total)` is called after each batch.

    Raises ValueError if the net's scores are no such maps, or if a label is neither a class nor 255.
    """
    loader = data_node(net).layer.loader
    classes = net.shapes[score_blob(net, maps=True)[0]][1]
    records = range(len(loader)) if records is None else records
    h, w = loader.transformer.top_shape[1:]
    predicted = np.empty((len(records), h, w), np.uint8)
    truth, keys = np.empty_like(predicted), []
    for done in range(0, len(records), loader.batch_size):
        batch = records[done : done + loader.batch_size]
        images, maps = loader.records(batch.start, len(batch))
        part = slice(done, done + len(batch))
        keys += keys_of(loader, batch)
        truth[part] = loader.transformer.crop(maps, CENTRE)[:, 0]
        _check_maps(truth[part], classes, keys[done:])
        scores = probabilities(net, loader.transformer, images)
        if crf:
            pictures = loader.transformer.crop(images, CENTRE)
            scores = [refine(P, image, crf) for P, image in zip(scores, pictures, strict=True)]
        predicted[part] = [P.argmax(0) for P in scores]
        if progress:
            progress(part.stop, len(records))
    return Segmentation(predicted, truth, np.array(keys, np.str_), classes)


@torch.no_grad()
def probabilities(net: Net, transformer: Transformer, images: np.ndarray) -> np.ndarray:
    """float32 [B, n, h, w], the softmax of the net's scores for the centres of records [B, C, H, W]."""
    name, normalised = score_blob(net, maps=True)
    feed(net, transformer.view(images, CENTRE))
    scores = net.blobs[name]
    if scores.shape[2:] != transformer.top_shape[1:]:
        sizes = f"{list(scores.shape)}, its images {list(transformer.top_shape)}"
        raise ValueError(f"blob {name!r} of net {net.name!r} is {sizes}: wanted a score for every pixel")
    return (scores if normalised else scores.softmax(1)).float().cpu().numpy()


def _check_maps(truth: np.ndarray, classes: int, keys: list[str]) -> None:
    wrong = np.flatnonzero(((truth >= classes) & (truth != VOID)).any((1, 2)))
    if len(wrong):
        known = f"the net has 0 to {classes - 1}, and 255 is of none"
        raise ValueError(f"the map of record {keys[wrong[0]]!r} has labels that are no class: {known}")
