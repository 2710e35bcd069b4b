"""A trained net's exact scores on a database: every record once, seen from 1 or 10 views.

10 views are the four corners, the centre and their mirror images, whose softmax outputs are averaged (Caffe:
python/caffe/classifier.py; Zuo 2015, §4.1).
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from crnn.data.transformer import VIEWS, Transformer
from crnn.net.graph import Node
from crnn.net.net import Net
from crnn.proto.blobs import write_bytes
from crnn.proto.npz import read_npz

CENTRE = 4  # its place among the ten views


@dataclass(frozen=True)
class Evaluation:
    """Scores of N records in n classes.

    probabilities: float32 [N, n].    labels: int64 [N].    keys: str [N], from the database.
    views: how many views of each record were averaged.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    views: int = 1

    @property
    def classes(self) -> int:
        return self.probabilities.shape[1]

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 [N], the most probable class; the first of equals."""
        return self.probabilities.argmax(1)

    @cached_property
    def correct(self) -> np.ndarray:
        """bool [N], as `top(1)` counts them."""
        return self.rank() < 1

    def rank(self) -> np.ndarray:
        """int64 [N], how many other classes are at least as probable as the true one."""
        true = np.take_along_axis(self.probabilities, self.labels[:, None], 1)
        return (self.probabilities >= true).sum(1) - 1

    def top(self, k: int) -> float:
        """The share of records whose class is among the k most probable (Caffe: accuracy_layer.cpp)."""
        if not 1 <= k <= self.classes:
            raise ValueError(f"top-{k} of {self.classes} classes: k must be within 1 and {self.classes}")
        return float((self.rank() < k).mean())

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64 [n, n], how many records of class i (row) were taken for class j (column).

        Each record counts once, as `predicted`; of two equally probable classes that is the first, whereas
        `correct` counts such a record as wrong.
        """
        pairs = self.labels * self.classes + self.predicted
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    def per_class(self) -> np.ndarray:
        """float64 [n], the share of each class's records that are right; nan for a class without records."""
        total = np.bincount(self.labels, minlength=self.classes)
        right = np.bincount(self.labels[self.correct], minlength=self.classes)
        return np.divide(right, total, out=np.full(self.classes, np.nan), where=total > 0)

    @property
    def mean_class_accuracy(self) -> float:
        """The mean of `per_class` over the classes that have records."""
        return float(np.nanmean(self.per_class()))

    def mistakes(self, count: int) -> np.ndarray:
        """The indices of up to `count` wrong records, the most confident first."""
        wrong = np.flatnonzero(self.predicted != self.labels)
        confidence = self.probabilities[wrong].max(1, initial=0)
        return wrong[np.argsort(-confidence, kind="stable")[:count]]

    def save(self, path) -> None:
        """Writes a .npz, whole or not at all."""
        file = io.BytesIO()
        arrays = {"probabilities": self.probabilities, "labels": self.labels, "keys": self.keys}
        np.savez_compressed(file, **arrays, views=self.views)
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path) -> "Evaluation":
        """Reads what `save` wrote. ValueError for another file, OSError if it cannot be read."""
        try:
            file = read_npz(path)
            return cls(file["probabilities"], file["labels"], file["keys"], int(file["views"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no evaluation ({error}): remove it and test again") from None


@torch.no_grad()
def evaluate(
    net: Net,
    views: int = 1,
    progress: Callable[[int, int], None] | None = None,
    records: range | None = None,
) -> Evaluation:
    """Scores `records` (default: all) of the net's own Data layer, each exactly once.

    The net is one of phase TEST; its batch size decides the size of the steps, the last of which may be
    smaller. `progress(done, total)` is called after each.

    Raises ValueError if `views` is not 1 or 10, if the net does not end in class scores, or if a label is not
    one of the classes.
    """
    if views not in (1, VIEWS):
        raise ValueError(f"views must be 1 or {VIEWS}, got {views}")
    if net.phase != "TEST":
        raise ValueError(f"net {net.name!r} was built for phase {net.phase}: build it with phase='TEST'")
    loader, classes = data_node(net).layer.loader, net.shapes[score_blob(net)[0]][1]
    records = range(len(loader)) if records is None else records
    probabilities = np.empty((len(records), classes), np.float32)
    labels, keys = np.empty(len(records), np.int64), []
    for done in range(0, len(records), loader.batch_size):
        batch = records[done : done + loader.batch_size]
        images, truth = loader.records(batch.start, len(batch))
        keys += keys_of(loader, batch)
        check_labels(truth, classes, keys[done:])
        part = slice(done, done + len(batch))
        probabilities[part] = predict(net, loader.transformer, images, views)
        check_scores(probabilities[part], keys[done:])
        labels[part] = truth
        if progress:
            progress(part.stop, len(records))
    return Evaluation(probabilities, labels, np.array(keys, np.str_), views)


def check_scores(scores: np.ndarray, names: Sequence[str]) -> None:
    """Raises FloatingPointError naming the first record whose scores [N, n] are not finite."""
    wrong = ~np.isfinite(scores).all(1)
    if wrong.any():
        raise FloatingPointError(
            f"record {names[int(wrong.argmax())]}: its scores are not finite; look at its pixels, the mean "
            "and the weights"
        )


@torch.no_grad()
def predict(net: Net, transformer: Transformer, images: np.ndarray, views: int = 1) -> np.ndarray:
    """float64 [B, n], the softmax outputs for records [B, C, H, W], averaged over 1 or 10 views of each."""
    scores, normalised = score_blob(net)
    total = 0.0
    for view in range(VIEWS) if views > 1 else [CENTRE]:
        feed(net, transformer.view(images, view))
        output = net.blobs[scores].flatten(1).double()
        total = total + (output if normalised else output.softmax(1))
    return (total / views).cpu().numpy()


def feed(net: Net, images) -> None:
    """A forward on images [N, C, h, w], as the net takes them; labels, which no score of this forward may
    depend on, are 0, and so are label paths."""
    node = image_node(net)
    zeros = {
        top: np.zeros((len(images), *shape[1:]), np.float32)
        for one in (node, *path_nodes(net))
        for top, shape in zip(one.tops, one.layer.top_shapes, strict=True)
    }
    net(**{**zeros, node.tops[0]: images})


def data_node(net: Net) -> Node:
    """The one layer of the net that reads a database of images."""
    nodes = [node for node in net.nodes if hasattr(getattr(node.layer, "loader", None), "records")]
    nodes = [node for node in nodes if node not in path_nodes(net)]
    if len(nodes) != 1:
        cure = "" if nodes else ": give its train_val, not its deploy"
        raise ValueError(
            f"net {net.name!r} must have one Data layer in phase TEST, it has {len(nodes)}{cure}"
        )
    return nodes[0]


def image_node(net: Net) -> Node:
    """The one layer by which images [N, C, h, w] enter the net: a Data or an Input layer."""
    nodes = [node for node in _sources(net) if node not in path_nodes(net)]
    if len(nodes) != 1:
        raise ValueError(
            f"net {net.name!r} must have one layer whose top is images [N, C, h, w], it has {len(nodes)}"
        )
    return nodes[0]


def path_nodes(net: Net) -> list[Node]:
    """The layers whose only top is label paths [N, T, 1, 1], beside that of the images and after it."""
    return [node for node in _sources(net)[1:] if len(node.tops) == 1 and _is_path(node)]


def _sources(net: Net) -> list[Node]:
    return [node for node in net.nodes if node.layer.source and len(node.layer.top_shapes[0]) == 4]


def _is_path(node: Node) -> bool:
    return node.layer.top_shapes[0][2:] == (1, 1)


def keys_of(loader, records: range) -> list[str]:
    return [loader.source.reader.key(i).decode("utf-8", "backslashreplace") for i in records]


def score_blob(net: Net, maps: bool = False) -> tuple[str, bool]:
    """The blob that holds the class scores, and whether these are probabilities already.

    It is what the last Softmax makes from which no other scores are made, as means of several are, else what
    the last SoftmaxWithLoss or Accuracy reads: [N, n], with `maps` [N, n, h, w].
    """
    last = {
        node.param.type: node
        for i, node in enumerate(net.nodes)
        if node.param.type != "Softmax" or not _goes_on(node.tops[0], net.nodes[i + 1 :])
    }
    if "Softmax" in last:
        name, normalised = last["Softmax"].tops[0], True
    elif reader := last.get("SoftmaxWithLoss", last.get("Accuracy")):
        name, normalised = reader.bottoms[0], False
    else:
        raise ValueError(f"net {net.name!r} has no Softmax, SoftmaxWithLoss or Accuracy: nothing to score by")
    shape = net.shapes[name]
    if len(shape) != 4 if maps else len(shape) < 2 or np.prod(shape[2:]) != 1:
        wanted = "a map of scores" if maps else "one score"
        paths = "; if it says label paths, give their tree (--tree)" if len(shape) == 3 else ""
        raise ValueError(f"blob {name!r} of net {net.name!r} is {list(shape)}, not {wanted} a class{paths}")
    return name, normalised


def _goes_on(blob: str, later: Sequence[Node]) -> bool:
    """Whether a blob of scores is read by more than what judges scores."""
    readers = [node for node in later if blob in node.bottoms]
    return not all(
        one.layer.is_loss or one.param.type in ("Accuracy", "ArgMax", "Silence") for one in readers
    )


def score_blobs(net: Net) -> list[str]:
    """The blobs [N, n] that hold scores of classes: all that a Softmax makes or a loss or Accuracy reads."""
    made = [node.tops[0] for node in net.nodes if node.param.type == "Softmax"]
    readers = [node for node in net.nodes if node.param.type in ("SoftmaxWithLoss", "Accuracy")]
    names = dict.fromkeys([*made, *(node.bottoms[0] for node in readers)])
    return [name for name in names if len(net.shapes[name]) > 1 and np.prod(net.shapes[name][2:]) == 1]


def check_labels(labels: np.ndarray, classes: int, keys: list[str]) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        label, key = labels[wrong[0]], keys[wrong[0]]
        raise ValueError(f"record {key!r} has label {label}; the net has classes 0 to {classes - 1}")
