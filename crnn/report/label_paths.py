"""The part of a report about label paths: images with what nets said of them, and states by t-SNE."""

from dataclasses import dataclass
from html import escape

import numpy as np

from crnn.report import plots


@dataclass
class Said:
    """A test image, uint8 [h, w] or RGB [h, w, 3], its true path, and each net's: (label, right) a level."""

    key: str
    kind: str
    image: np.ndarray
    truth: list[str]
    paths: dict[str, list[tuple[str, bool]]]


@dataclass
class StatePlot:
    """The states of a step, from 1: points float [n, 2] and their groups int [n], named by `names`."""

    step: int
    points: np.ndarray
    groups: np.ndarray
    names: dict[int, str]


@dataclass
class Told:
    """net: the one by which the images were chosen, whose states are shown.    tsne: whether they can be."""

    net: str
    examples: list[Said]
    plots: list[StatePlot]
    tsne: bool


def section(told: Told) -> str:
    """The HTML of both parts."""
    return f"{_examples(told)}\n{_states(told)}"


def _examples(told: Told) -> str:
    parts = [
        "<h2>Label paths</h2>\n<p>Test images with their true label paths and those that each net says; "
        f"wrong labels are crossed out. They are chosen by what {escape(told.net)} says of them.</p>"
    ]
    for kind in dict.fromkeys(one.kind for one in told.examples):
        items = "\n".join(_example(one) for one in told.examples if one.kind == kind)
        parts.append(f"<h3>{escape(told.net)}: {escape(kind)}</h3>\n{items}")
    return "\n".join(parts)


def _example(one: Said) -> str:
    truth = " → ".join(map(escape, one.truth))
    rows = "".join(
        f"<tr><td>{escape(net)}</td><td>{_path(path)}</td></tr>" for net, path in one.paths.items()
    )
    return (
        f'<div class="told"><figure><img src="{plots.picture(one.image)}" alt="{truth}">'
        f"<figcaption>{escape(one.key)}</figcaption></figure>\n"
        f'<div class="scroll"><table><tbody><tr><td><b>truth</b></td><td><b>{truth}</b></td></tr>{rows}'
        "</tbody></table></div></div>"
    )


def _path(path: list[tuple[str, bool]]) -> str:
    labels = [escape(label) if right else f"<del>{escape(label)}</del>" for label, right in path]
    return " → ".join(labels) or "nothing"


def _states(told: Told) -> str:
    head = "<h2>States of each step</h2>\n"
    if not told.tsne:
        return f"{head}<p>Their picture needs scikit-learn: pip install crnn[svm], then report again.</p>"
    text = (
        f"<p>The LSTM's states h of {escape(told.net)} for test records, a plane a step, by t-SNE: "
        "near points have near states. Colours are the first labels of the true paths.</p>\n"
    )
    figures = [
        f'<figure><div class="scroll" role="img" aria-label="states of step {one.step}">'
        f"{plots.scatter(one.points, one.groups, one.names)}</div>"
        f"<figcaption>step {one.step}</figcaption></figure>"
        for one in told.plots
    ]
    return f'{head}{text}<div class="pair">\n{chr(10).join(figures)}\n</div>'
