"""Label paths for the eye: test images with the paths that nets say of them, and the states that say them."""

from collections.abc import Sequence

import numpy as np

from crnn.data.label_tree import LabelTree, read_tree
from crnn.decode import generator
from crnn.experiments.checks import data_are_here
from crnn.experiments.evaluate import CENTRE, data_node
from crnn.experiments.jobs import Job
from crnn.experiments.label_paths import LabelPaths
from crnn.experiments.results import picture
from crnn.experiments.states import has_tsne, states, tsne
from crnn.experiments.steps import NET
from crnn.net.net import Net
from crnn.report.label_paths import Said, StatePlot, Told

SHOWN = 4  # images of each kind
KINDS = ("right", "right at first, then wrong", "wrong from the first label on")


def told(jobs: Sequence[Job]) -> Told | None:
    """What a report shows of `jobs`, which are of one seed and were tested on the same records.

    None unless they have a label tree and one of them makes label paths: of that one are the states, and by
    how it does the images are chosen, as in Guo 2018, Figure 7. None too on a machine without the data.
    """
    if not jobs[0].experiment.message.tree or not data_are_here(jobs[0]):
        return None
    tree, made = read_tree(jobs[0].experiment.message.tree), None
    for job in jobs:
        net = Net(str(job.folder / NET), phase="TEST") if job.trained else None
        if net and generator(net):
            made = job
            break
    if made is None:
        return None
    scores = {job.name: job.scores(1) for job in jobs}
    loader = data_node(net).layer.loader
    examples = []
    for kind, records in zip(KINDS, _chosen(scores[made.name]), strict=True):
        for i in records:
            image = picture(loader.transformer.crop(loader.records(i, 1)[0], CENTRE)[0])
            paths = {name: _named(tree, one, i) for name, one in scores.items()}
            truth = [tree.name(c) for c in tree.path(int(scores[made.name].labels[i]))]
            examples.append(Said(str(scores[made.name].keys[i]), kind, image, truth, paths))
    return Told(made.name, examples, _plots(made, tree), has_tsne())


def _chosen(scores: LabelPaths) -> list[list[int]]:
    """Records of each of KINDS, of as many different labels as there are."""
    right = scores.predicted == scores.truth
    kinds = (right.all(1), right[:, 0] & ~right.all(1), ~right[:, 0])
    found = []
    for kind in kinds:
        first: dict[int, int] = {}
        for i in np.flatnonzero(kind).tolist():
            first.setdefault(int(scores.labels[i]), i)
        records = list(first.values())
        places = np.linspace(0, len(records) - 1, min(SHOWN, len(records))).astype(int)
        found.append([records[place] for place in places])
    return found


def _named(tree: LabelTree, scores: LabelPaths, i: int) -> list[tuple[str, bool]]:
    """(label, whether it is right) of what was said of record i."""
    pairs = zip(scores.predicted[i].tolist(), scores.truth[i].tolist(), strict=True)
    return [(tree.name(said), said == true) for said, true in pairs if 0 <= said != tree.end]


def _plots(job: Job, tree: LabelTree) -> list[StatePlot]:
    """A picture a step, coloured by the first label; none without scikit-learn."""
    if not has_tsne():
        return []
    net = Net(str(job.folder / NET), phase="TEST", weights=",".join(map(str, job.tested)))
    values, labels = states(net, tree)
    if len(labels) < 3:
        return []
    firsts = np.array([tree.path(label)[0] for label in range(tree.leaves)])
    names = {c: tree.name(c) for c in sorted(set(firsts[labels].tolist()))}
    return [StatePlot(t, tsne(step), firsts[labels], names) for t, step in enumerate(values, 1)]
