"""The label paths that nets say of a database's records, and how right they are, level by level.

A CNN-RNN net says a path label by label; a CNN-based generator (Guo 2018, Figure 2) says one coarse and one
fine label; of a net that says the fine label alone the path is that label's in the tree, and one that says
the coarse label alone says nothing of the finer levels.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from crnn.data.label_tree import LabelTree
from crnn.decode import Generator, decode, generator
from crnn.experiments.evaluate import CENTRE, data_node, feed, keys_of, score_blobs
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.blobs import write_bytes
from crnn.proto.npz import read_npz

UNSAID = -2


@dataclass(frozen=True)
class LabelPaths:
    """What was said of N records, in a tree whose F labels have the paths `sequences` int64 [F, T].

    predicted: int64 [N, T] categories, UNSAID where the net says nothing, PADDING after an end.
    labels: int64 [N], the true ones.    keys: str [N], from the database.    inner, end: of the tree; end is
    -1 where all paths have one length.    given: how many labels of each path were known, not said.
    """

    predicted: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    sequences: np.ndarray
    inner: int
    end: int = -1
    given: int = 0

    @property
    def truth(self) -> np.ndarray:
        """int64 [N, T], the true paths."""
        return self.sequences[self.labels]

    @property
    def levels(self) -> int:
        """Of the tree: labels of its longest path."""
        return self.sequences.shape[1] - (self.end >= 0)

    @cached_property
    def answers(self) -> np.ndarray:
        """int64 [N], the label that each path ends with; -1 for a path that ends with no label."""
        said = (self.predicted >= 0) & (self.predicted != self.end)
        last = said.shape[1] - 1 - said[:, ::-1].argmax(1)
        labels = np.take_along_axis(self.predicted, last[:, None], 1)[:, 0] - self.inner
        return np.where(self.whole & said.any(1) & (labels >= 0), labels, -1)

    @property
    def whole(self) -> bool:
        """Whether all levels are said."""
        return not (self.predicted == UNSAID).any()

    def level_accuracy(self, level: int) -> float:
        """The share of records whose label of that level, from 1, is right, of those that have one.

        nan where none has, or where the net does not say that level.
        """
        if not self.given < level <= self.levels or (self.predicted[:, level - 1] == UNSAID).any():
            return np.nan
        truth = self.truth[:, level - 1]
        counted = (truth >= 0) & (truth != self.end)
        right = self.predicted[counted, level - 1] == truth[counted]
        return float(right.mean()) if counted.any() else np.nan

    @property
    def fine_accuracy(self) -> float:
        """The share of records whose path ends with the true label."""
        return float((self.answers == self.labels).mean()) if self.whole else np.nan

    @property
    def path_accuracy(self) -> float:
        """The share of records of which the whole path is right, and ends where it should."""
        return float((self.predicted == self.truth).all(1).mean()) if self.whole else np.nan

    @property
    def consistency(self) -> float:
        """The share of records whose path is one of the tree: each label below the one before, to the end."""
        own = self.sequences[np.maximum(self.answers, 0)]
        valid = (self.answers >= 0) & (self.predicted == own).all(1)
        return float(valid.mean()) if self.whole else np.nan

    def save(self, path) -> None:
        """Writes a .npz, whole or not at all."""
        file = io.BytesIO()
        names = ("predicted", "labels", "keys", "sequences", "inner", "end", "given", "answers")
        np.savez_compressed(file, **{name: getattr(self, name) for name in names})
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path) -> "LabelPaths":
        """Reads what `save` wrote. ValueError for another file, OSError if it cannot be read."""
        try:
            file = read_npz(path)
            arrays = (file[name] for name in ("predicted", "labels", "keys", "sequences"))
            return cls(*arrays, *(int(file[name]) for name in ("inner", "end", "given")))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} holds no label paths ({error}): remove it and test again") from None


@torch.no_grad()
def say(
    net: Net,
    tree: LabelTree,
    way: pb.DecodeParameter | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> LabelPaths:
    """The label paths of all records of the net's own Data layer, seen from the centre.

    The net is one of phase TEST. `way` is of nets that make paths; `progress(done, total)` is called after
    each batch.

    Raises ValueError where net, tree and `way` do not fit together, and for a label that is not in the tree.
    """
    way, loader = way or pb.DecodeParameter(), data_node(net).layer.loader
    sequences, speak = speaker(net, tree, way)
    predicted = np.empty((len(loader), sequences.shape[1]), np.int64)
    labels, keys = np.empty(len(loader), np.int64), []
    for done in range(0, len(loader), loader.batch_size):
        images, truth = loader.records(done, min(loader.batch_size, len(loader) - done))
        part = slice(done, done + len(images))
        keys += keys_of(loader, range(done, part.stop))
        _check(truth, tree, keys[done:])
        feed(net, loader.transformer.view(images, CENTRE))
        predicted[part], labels[part] = speak(sequences[truth]), truth
        if progress:
            progress(part.stop, len(loader))
    end = -1 if tree.end is None else tree.end
    return LabelPaths(predicted, labels, np.array(keys, np.str_), sequences, tree.inner, end, way.given)


def speaker(net: Net, tree: LabelTree, way: pb.DecodeParameter) -> tuple[np.ndarray, Callable]:
    """The labels' paths int64 [F, T] as the net has them, and a function that says what it says.

    That takes the true paths int64 [N, T] of the images that the net has just seen (only those labels count
    that `way` gives) and returns predicted ones [N, T]. Raises ValueError as `say`.
    """
    made = generator(net)
    sequences = tree.sequences(made.steps if made else tree.steps)
    if made:
        return sequences, _decoder(net, tree, made, way)
    if way.ListFields():
        raise ValueError(f"net {net.name!r} makes no label paths step by step: nothing to decode")
    return sequences, _chooser(net, tree, sequences)


def _decoder(net: Net, tree: LabelTree, made: Generator, way: pb.DecodeParameter):
    """A function of the true paths: those that the net makes, step by step."""
    scored = net.shapes[made.scores][2]
    if scored != tree.categories:
        raise ValueError(
            f"the tree has {tree.categories} categories, blob {made.scores!r} of net {net.name!r} scores "
            f"{scored}: num_output must be the tree's"
        )
    if way.given > min(tree.depths):
        name = tree.name(tree.inner + int(np.argmin(tree.depths)))
        raise ValueError(
            f"{way.given} labels of each path cannot be given: that of {name!r} has {min(tree.depths)}"
        )
    follows = tree.follows if way.valid else None
    return lambda true: decode(net, made, true[:, : way.given], follows, tree.end, way.beam)


def _chooser(net: Net, tree: LabelTree, sequences):
    """A function of the true paths: the likeliest label of each level that the net has scores of."""
    scores = {net.shapes[name][1]: name for name in score_blobs(net)}
    fine, coarse = scores.get(tree.leaves), scores.get(tree.inner)
    if coarse and set(tree.depths) != {2}:
        coarse = None  # which of them are of one level only a tree of two levels says
    if not (fine or coarse):
        raise ValueError(
            f"net {net.name!r} has scores of {', '.join(map(str, scores)) or 'no'} classes, the tree "
            f"{tree.leaves} labels and {tree.inner} categories above them"
        )

    def choose(true: np.ndarray) -> np.ndarray:
        best = {level: _best(net, name) for level, name in (("c", coarse), ("f", fine)) if name}
        if "f" not in best:
            return np.stack([best["c"], np.full(len(true), UNSAID)], 1)
        paths = sequences[best["f"]].copy()
        if "c" in best:
            paths[:, 0] = best["c"]
        return paths

    return choose


def _best(net: Net, blob: str) -> np.ndarray:
    """int64 [N], the likeliest class; the first of equals."""
    return net.blobs[blob].flatten(1).cpu().numpy().argmax(1)


def _check(labels: np.ndarray, tree: LabelTree, keys: list[str]) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= tree.leaves))
    if len(wrong):
        raise ValueError(
            f"record {keys[wrong[0]]!r} has label {labels[wrong[0]]} without a path: the tree has labels "
            f"0 to {tree.leaves - 1}"
        )
