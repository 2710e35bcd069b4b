"""The values of a blob for every record of a database."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from crnn.data.transformer import VIEWS
from crnn.experiments.evaluate import CENTRE, data_node, feed, keys_of
from crnn.net.graph import is_included, net_state
from crnn.net.net import Net
from crnn.proto import pb

Progress = Callable[[int, int], None]


def reading_training_data(net: pb.NetParameter) -> pb.NetParameter:
    """The net with the TRAIN database in its TEST Data layer: training records, cut as test records."""
    sources = {}
    for phase in (pb.TRAIN, pb.TEST):
        state = net_state(net, phase)
        sources[phase] = [
            i for i, one in enumerate(net.layer) if one.type == "Data" and is_included(state, one)
        ]
        if len(sources[phase]) != 1:
            name = "TRAIN" if phase == pb.TRAIN else "TEST"
            raise ValueError(
                f"net {net.name!r} must have one Data layer in phase {name}, it has {len(sources[phase])}"
            )
    copy = pb.NetParameter()
    copy.CopyFrom(net)
    source = net.layer[sources[pb.TRAIN][0]].data_param.source
    copy.layer[sources[pb.TEST][0]].data_param.source = source
    return copy


@torch.no_grad()
def batches(net: Net, blob: str, views: int) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
    """Over all records of the net's Data layer: (features float32 [views, B, D], labels [B], keys).

    Raises ValueError for a blob that the net does not have.
    """
    if blob not in net.shapes:
        raise ValueError(f"net {net.name!r} has no blob {blob!r}; it has {', '.join(net.shapes)}")
    if len(net.shapes[blob]) < 2:
        raise ValueError(
            f"blob {blob!r} of net {net.name!r} is {list(net.shapes[blob])}: no features of images"
        )
    loader = data_node(net).layer.loader
    for start in range(0, len(loader), loader.batch_size):
        images, labels = loader.records(start, min(loader.batch_size, len(loader) - start))
        features = []
        for view in range(VIEWS) if views > 1 else [CENTRE]:
            feed(net, loader.transformer.view(images, view))
            features.append(net.blobs[blob].flatten(1).float().cpu().numpy())
        yield np.stack(features), labels, keys_of(loader, range(start, start + len(labels)))


def collect(net: Net, blob: str, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """(features float32 [N, D] of the centre view, labels [N]) of all records."""
    rows, labels = [], []
    for features, truth, _ in batches(net, blob, 1):
        rows.append(features[0])
        labels.append(truth)
        progress(sum(map(len, labels)), len(data_node(net).layer.loader))
    return np.concatenate(rows), np.concatenate(labels)
