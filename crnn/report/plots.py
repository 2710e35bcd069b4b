"""The page's pictures: SVG text by matplotlib, PNG for photographs. Equal input gives equal text."""

import base64
import io
import re
from collections.abc import Iterable

import matplotlib.image
import numpy as np
from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from crnn.report.content import Curve

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind
MARKERS = ("o", "^", "s", "x", "+", "v")  # for more groups than colours
NO_METADATA = dict.fromkeys(("Date", "Creator", "Type", "Format"))
LONGEST = 20  # letters of a class's name
STYLE = {
    "svg.hashsalt": "crnn",  # else the ids inside are random
    "svg.fonttype": "path",  # the same look without the same fonts
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "legend.frameon": False,
}


def curves(named: dict[str, Curve], label: str, scale: float = 1, from_zero: bool = False) -> str:
    """A chart of values times `scale` over iterations, one line a name, coloured in their order."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for i, (name, curve) in enumerate(named.items()):
            values = np.asarray(curve.values, float) * scale
            marker = "o" if len(values) < 30 else None
            axes.plot(curve.iterations, values, color=colour(i), label=name, marker=marker, markersize=4)
        axes.set_xlabel("iterations")
        axes.set_ylabel(label)
        axes.set_ylim(*((0, None) if from_zero else _settled(list(named.values()), scale)))
        _legend(axes, named)
        return svg(figure)


def _settled(curves: list[Curve], scale: float) -> tuple[float, float] | tuple[None, None]:
    """Limits that show what follows the first tenth of the iterations: the steep start would flatten it."""
    iterations, values = (
        np.concatenate([getattr(curve, part) for curve in curves]) for part in ("iterations", "values")
    )
    late = iterations >= 0.1 * iterations.max(initial=0)
    values = values[late & np.isfinite(values)] * scale
    if len(values) == 0 or values.min() == values.max():
        return None, None
    margin = 0.05 * (values.max() - values.min())
    return values.min() - margin, values.max() + margin


def intervals(names, values, halves, others, label: str) -> str:
    """A line a name: a value with its interval, and as a ring another value where it is known (no nan)."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 0.9 + 0.32 * len(names)), layout="constrained")
        axes = figure.subplots()
        places = range(len(names))
        axes.axvline(0, color="#888888", linewidth=1)
        axes.errorbar(values, places, xerr=halves, fmt="o", color=COLOURS[0], capsize=3, label="ours")
        if not np.isnan(others).all():
            axes.plot(others, places, "o", color=COLOURS[1], fillstyle="none", label="paper")
            axes.legend()
        axes.set_yticks(places, names, parse_math=False)
        axes.set_ylim(len(names) - 0.5, -0.5)  # the first on top
        axes.set_xlabel(label)
        return svg(figure)


def confusion(counts: np.ndarray, classes: list[str], colour: str) -> str:
    """A heat map of `counts` [n, n], each row (a true class) in percent; with figures up to 20 classes."""
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    n = len(classes)
    with rc_context({**STYLE, "axes.grid": False}):
        side = 1.7 + (0.4 * n if n <= 20 else 5)
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap=_shades(colour), vmin=0, vmax=100)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        if n <= 20:
            names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in classes]
            axes.set_xticks(range(n), names, rotation=45, ha="left", parse_math=False)
            axes.set_yticks(range(n), names, parse_math=False)
            for (i, j), share in np.ndenumerate(shares):
                ink = "white" if share > 50 else "#222222"
                if share > 0:
                    axes.text(j, i, _percent(share), ha="center", va="center", color=ink, fontsize=8)
        return svg(figure)


def _legend(axes, names: Iterable[str], **place) -> None:
    """Of the axes' lines, by names as they are: no formulas, none left out for what it begins with."""
    names = list(names)
    legend = axes.legend(axes.lines, list(map(str, range(len(names)))), **place)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def scatter(points: np.ndarray, groups: np.ndarray, names: dict[int, str]) -> str:
    """Points [n, 2] in a colour a group, without scales: only who is near whom means something."""
    with rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        axes = figure.subplots()
        for i, (group, name) in enumerate(names.items()):
            x, y = points[groups == group].T
            marker = MARKERS[i // len(COLOURS) % len(MARKERS)]
            axes.plot(x, y, marker, color=colour(i), markersize=3, label=name, linewidth=0)
        axes.set_xticks([])
        axes.set_yticks([])
        _legend(axes, names.values(), loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, markerscale=2)
        return svg(figure)


def picture(image: np.ndarray) -> str:
    """uint8 [H, W] or RGB [H, W, 3] as the data: address of a PNG."""
    colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)
    file = io.BytesIO()
    matplotlib.image.imsave(file, colours, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _shades(colour: str):
    return LinearSegmentedColormap.from_list("shades", ["white", colour])


def _percent(share: float) -> str:
    return f"{share:.0f}" if share >= 0.95 else "·"


def svg(figure: Figure) -> str:
    """The <svg> element, as HTML takes it: no namespaces."""
    file = io.StringIO()
    figure.savefig(file, format="svg", bbox_inches="tight", metadata=NO_METADATA)
    text = file.getvalue()
    element = text[text.index("<svg") :].strip().replace("xlink:href=", "href=")
    return re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", element)
