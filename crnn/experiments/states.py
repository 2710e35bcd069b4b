"""What the LSTM of a CNN-RNN net holds at each step, and its picture by t-SNE (Guo 2018, Figure 5)."""

import importlib.util

import numpy as np
import torch

from crnn.data.label_tree import LabelTree
from crnn.decode import decode, generator
from crnn.experiments.evaluate import CENTRE, data_node, feed
from crnn.net.net import Net

MOST = 2000  # records in a picture
PERPLEXITY = 30.0


@torch.no_grad()
def states(net: Net, tree: LabelTree, most: int = MOST) -> tuple[np.ndarray, np.ndarray]:
    """(states float32 [T, n, D], labels int64 [n]) of up to `most` records, evenly spread, decoded greedily.

    The net is one of phase TEST that makes label paths.
    """
    made, loader = generator(net), data_node(net).layer.loader
    chosen = np.linspace(0, len(loader) - 1, min(most, len(loader))).astype(int)
    found, labels = [], []
    for i in range(0, len(chosen), loader.batch_size):
        records = [loader.records(int(one), 1) for one in chosen[i : i + loader.batch_size]]
        feed(net, loader.transformer.view([images[0] for images, _ in records], CENTRE))
        decode(net, made, end=tree.end)
        found.append(net.blobs[made.states].float().cpu().numpy())
        labels += [int(label[0]) for _, label in records]
    return np.concatenate(found, 1), np.array(labels, np.int64)


def has_tsne() -> bool:
    return importlib.util.find_spec("sklearn") is not None


def tsne(points: np.ndarray) -> np.ndarray:
    """float64 [n, 2] for points [n, D], n > 1: neighbours stay neighbours (van der Maaten 2008)."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(points).astype(np.float64)
