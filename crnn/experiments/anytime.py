"""Accuracy against cost: every answer of a net, over all records of its Data layer."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from crnn.experiments.evaluate import CENTRE, check_labels, data_node, keys_of
from crnn.net.anytime import answers, answers_of
from crnn.net.net import Net
from crnn.proto.blobs import write_bytes


@dataclass(frozen=True)
class Point:
    """One answer: its blob; multiply-adds and seconds of an image up to it; its share of right records."""

    blob: str
    multiply_adds: int
    seconds: float
    accuracy: float


@torch.no_grad()
def measure(net: Net, progress: Callable[[int, int], None] | None = None) -> list[Point]:
    """The answers of a net of phase TEST over the centre of every record, the cheapest first.

    Seconds are those of a batch, the median of all full ones, over its size: reading is not in them.
    """
    node = data_node(net)
    loader, found = node.layer.loader, answers_of(net)
    right, seconds = np.zeros(len(found)), []
    for start in range(0, len(loader), loader.batch_size):
        images, labels = loader.records(start, min(loader.batch_size, len(loader) - start))
        keys = keys_of(loader, range(start, start + len(labels)))
        check_labels(labels, net.shapes[found[0].blob][1], keys)
        view = loader.transformer.view(images, CENTRE)
        given = dict(zip(node.tops, (view, np.zeros(len(view), np.float32)), strict=False))
        begun, times = _now(net), []
        for i, (_, scores) in enumerate(answers(net, **given)):
            times.append(_now(net) - begun)
            scores = scores.flatten(1).cpu()
            true = scores.gather(1, torch.from_numpy(labels)[:, None])
            right[i] += int(((scores >= true).sum(1) == 1).sum())  # of equals none is right, as in Evaluation
        seconds.append(np.array(times) / len(labels))
        if progress:
            progress(start + len(labels), len(loader))
    typical = np.median(seconds[: max(1, len(loader) // loader.batch_size)], axis=0)
    shares = (right / len(loader)).tolist()
    return [
        Point(one.blob, one.multiply_adds, *rest)
        for one, *rest in zip(found, typical.tolist(), shares, strict=True)
    ]


def _now(net: Net) -> float:
    if net.like.is_cuda:
        torch.cuda.synchronize(net.like.device)
    return time.perf_counter()


def save(path: Path, points: list[Point]) -> None:
    """Writes JSON, whole or not at all."""
    write_bytes(path, json.dumps([asdict(point) for point in points], indent=1).encode())


def load(path: Path) -> list[Point]:
    """Reads what `save` wrote. Raises ValueError for another file, OSError if it cannot be read."""
    try:
        return [Point(**point) for point in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no curve ({error}): remove it and run again") from None
