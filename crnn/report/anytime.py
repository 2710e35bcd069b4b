"""Accuracy against cost in a report: a table and two charts, every answer of every net a point."""

import math
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure

from crnn.report import plots
from crnn.report.page import table

HEAD = ["net", "answer", "top-1 error, %", "million multiply-adds", "ms an image"]
ABOUT = (
    "Every answer that a net can give before it has run whole. Multiply-adds of one image, those of products "
    "with weights; milliseconds of one image in the test's batches, medians, on the machine below."
)


@dataclass
class Answer:
    """error: mean over the seeds, in percent, ± half (nan of one seed).    million: multiply-adds."""

    net: str
    blob: str
    error: float
    half: float
    million: float
    milliseconds: float


def cells(answers: list[Answer]) -> list[list[str]]:
    """The rows of the table; columns as in HEAD."""
    return [
        [
            one.net,
            one.blob,
            f"{one.error:.2f}" + ("" if math.isnan(one.half) else f" ± {one.half:.2f}"),
            f"{one.million:,.1f}",
            f"{one.milliseconds:,.2f}",
        ]
        for one in answers
    ]


def section(answers: list[Answer]) -> str:
    """Of the HTML page."""
    charts = [
        f'<div class="scroll" role="img" aria-label="{label}">{chart(answers, field, label)}</div>'
        for field, label in (("million", HEAD[3]), ("milliseconds", HEAD[4]))
    ]
    return "\n".join(
        [
            "<h2>Accuracy against cost</h2>",
            f"<p>{ABOUT}</p>",
            *charts,
            table(HEAD, cells(answers), numbers_from=2),
        ]
    )


def chart(answers: list[Answer], field: str, label: str) -> str:
    """Error over a cost, whose axis is logarithmic; the answers of one net are joined."""
    with rc_context(plots.STYLE):
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        for i, net in enumerate(dict.fromkeys(one.net for one in answers)):
            own = sorted((one for one in answers if one.net == net), key=lambda one: getattr(one, field))
            halves = [0 if math.isnan(one.half) else one.half for one in own]
            axes.errorbar(
                [getattr(one, field) for one in own],
                [one.error for one in own],
                yerr=halves,
                color=plots.colour(i),
                marker=plots.MARKERS[i // len(plots.COLOURS) % len(plots.MARKERS)],
                markersize=5,
                capsize=2,
                label=net,
            )
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel(HEAD[2])
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
        return plots.svg(figure)
