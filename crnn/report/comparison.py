"""A table of nets trained with several seeds, as Markdown and as one HTML page."""

import math
import os
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from crnn.report import anytime, label_paths, plots
from crnn.report.page import document, duration, table, write_text


@dataclass
class Figure:
    """A mean over n seeds, in percent or points, with half the width of its interval; nan where unknown."""

    value: float = math.nan
    half: float = math.nan
    n: int = 0


@dataclass
class Row:
    """One net by one way of testing.

    seeds: seed -> its figure.    difference: to the baseline, paired by seed.    paper, paper_difference: the
    published figures, nan if there are none.    baseline: what the differences are to, "" for the table's.
    """

    net: str
    ours: Figure
    seeds: dict[int, float]
    difference: Figure
    paper: float = math.nan
    paper_difference: float = math.nan
    baseline: str = ""


@dataclass
class Table:
    """All nets by one way of testing, as "top-1 error, 10 views"."""

    way: str
    rows: list[Row]


@dataclass
class Cost:
    """What a net takes: parameters; iterations and seconds of one training, mean over its seeds."""

    net: str
    about: str
    parameters: int
    iterations: int
    seconds: float
    images_per_second: float


@dataclass
class Overlay:
    """A test image: (title, uint8 [h, w] or RGB [h, w, 3]) of itself, the truth and each net's answer."""

    key: str
    panels: list[tuple[str, np.ndarray]]


@dataclass
class Comparison:
    """`baseline`: the net that differences are to, "" for none.    source: what stands above the paper's
    figures.    notes: paragraphs.    setup: name -> value.    solvers: net -> its effective solver."""

    title: str
    source: str
    baseline: str
    notes: list[str]
    tables: list[Table]
    costs: list[Cost]
    commands: list[str]
    setup: dict[str, str]
    progress: str = ""
    solvers: dict[str, str] = field(default_factory=dict)
    overlays: list[Overlay] = field(default_factory=list)
    told: label_paths.Told | None = None
    answers: list[anytime.Answer] = field(default_factory=list)


def write(folder: str | os.PathLike, comparison: Comparison) -> list[Path]:
    """Writes report.md and report.html, each whole or not at all; returns their paths."""
    paths = []
    for name, text in (("report.md", markdown(comparison)), ("report.html", page(comparison))):
        paths.append(Path(folder, name))
        write_text(paths[-1], text)
    return paths


def head(comparison: Comparison, paper: bool) -> list[str]:
    columns = ["net", "seeds", "ours, % (95 % interval)"]
    if comparison.baseline:
        columns.append(f"minus {comparison.baseline}, points")
    if paper:
        columns.append(f"{comparison.source}, %")
    if paper and comparison.baseline:
        columns.append(f"its minus {comparison.baseline}")
    return columns


def cells(comparison: Comparison, table: Table) -> list[list[str]]:
    """The rows of a table as text; columns as in `head`."""
    paper, rows = has_paper(table), []
    for row in table.rows:
        line = [row.net, str(row.ours.n), plus_minus(row.ours)]
        if comparison.baseline:
            own = f"; minus {row.baseline}" if row.baseline else ""
            line.append("" if row.net == comparison.baseline else between(row.difference) + own)
        if paper:
            line.append(number(row.paper))
        if paper and comparison.baseline:
            line.append("" if row.net == comparison.baseline else signed(row.paper_difference))
        rows.append(line)
    return rows


def has_paper(table: Table) -> bool:
    return not all(math.isnan(row.paper) for row in table.rows)


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def plus_minus(figure: Figure) -> str:
    return number(figure.value) + ("" if math.isnan(figure.half) else f" ± {figure.half:.2f}")


def between(figure: Figure) -> str:
    """ "+0.12 (−0.05 to +0.29)"."""
    if math.isnan(figure.half):
        return signed(figure.value)
    low, high = figure.value - figure.half, figure.value + figure.half
    return f"{signed(figure.value)} ({signed(low)} to {signed(high)})"


def cost_cells(costs: list[Cost]) -> tuple[list[str], list[list[str]]]:
    names = ["net", "parameters", "iterations", "one training", "images/s"]
    rows = [
        [
            cost.net,
            f"{cost.parameters:,}",
            f"{cost.iterations:,}" if cost.iterations else "–",
            "–" if math.isnan(cost.seconds) else duration(cost.seconds),
            "–" if math.isnan(cost.images_per_second) else f"{cost.images_per_second:,.0f}",
        ]
        for cost in costs
    ]
    return names, rows


def seed_cells(table: Table) -> tuple[list[str], list[list[str]]]:
    """Every single figure."""
    seeds = sorted({seed for row in table.rows for seed in row.seeds})
    rows = [[row.net, *(number(row.seeds.get(seed, math.nan)) for seed in seeds)] for row in table.rows]
    return ["net", *(f"seed {seed}" for seed in seeds)], rows


def markdown(comparison: Comparison) -> str:
    parts = [f"# {comparison.title}", comparison.progress]
    for one in comparison.tables:
        parts += [
            f"## {one.way[0].upper()}{one.way[1:]}",
            pipes(head(comparison, has_paper(one)), cells(comparison, one)),
        ]
    if comparison.answers:
        parts += ["## Accuracy against cost", anytime.ABOUT]
        parts.append(pipes(anytime.HEAD, anytime.cells(comparison.answers)))
    parts += [*comparison.notes, "## Cost", pipes(*cost_cells(comparison.costs))]
    abouts = [f"- {cost.net}: {cost.about}" for cost in comparison.costs if cost.about]
    parts += ["## Nets", "\n".join(abouts)] if abouts else []
    parts.append("## Every seed")
    for one in comparison.tables:
        parts += [f"{one.way[0].upper()}{one.way[1:]}, %:", pipes(*seed_cells(one))]
    parts += ["## Commands", "\n".join(f"    {line}" for line in comparison.commands)]
    parts += ["## Setup", pipes(["what", "value"], [[k, v] for k, v in comparison.setup.items()])]
    return "\n\n".join(part for part in parts if part) + "\n"


def pipes(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def page(comparison: Comparison) -> str:
    """The page's HTML, the same for equal content."""
    sections = [f"<h1>{escape(comparison.title)}</h1>\n<p>{escape(comparison.progress)}</p>"]
    for i, one in enumerate(comparison.tables):
        sections.append(_section(comparison, one, i))
    sections.append(anytime.section(comparison.answers) if comparison.answers else "")
    sections.append("\n".join(f"<p>{escape(note)}</p>" for note in comparison.notes))
    sections.append(f"<h2>Cost</h2>\n{table(*cost_cells(comparison.costs), numbers_from=1)}")
    abouts = [[cost.net, cost.about] for cost in comparison.costs if cost.about]
    sections.append(f"<h2>Nets</h2>\n{table([], abouts)}" if abouts else "")
    single = [
        f"<h3>{escape(t.way)}, %</h3>\n{table(*seed_cells(t), numbers_from=1)}" for t in comparison.tables
    ]
    sections.append("<h2>Every seed</h2>\n" + "\n".join(single))
    sections.append(_predictions(comparison.overlays) if comparison.overlays else "")
    sections.append(label_paths.section(comparison.told) if comparison.told else "")
    solvers = [
        f"<details><summary>{escape(net)}</summary><pre>{escape(text)}</pre></details>"
        for net, text in comparison.solvers.items()
    ]
    sections.append("<h2>Solvers</h2>\n" + "\n".join(solvers) if solvers else "")
    sections.append(f"<h2>Commands</h2>\n<pre>{escape(chr(10).join(comparison.commands))}</pre>")
    sections.append(f"<h2>Setup</h2>\n{table([], [[k, v] for k, v in comparison.setup.items()])}")
    return document(comparison.title, sections)


def _predictions(overlays: list[Overlay]) -> str:
    """A row an image, from the one that the last net knows best to the one it knows least."""
    rows = []
    for overlay in overlays:
        cells = [
            f'<figure><img src="{plots.picture(image)}" alt="{escape(title)}">'
            f"<figcaption>{escape(title)}</figcaption></figure>"
            for title, image in overlay.panels
        ]
        rows.append(f'<h3>{escape(overlay.key)}</h3>\n<div class="row">\n{chr(10).join(cells)}\n</div>')
    return "<h2>Predictions</h2>\n<p>Shares are of the image's pixels that are right.</p>\n" + "\n".join(rows)


def _versus(row: Row) -> str:
    """The row's name in a picture of differences to the table's baseline, with its own if it has one."""
    return f"{row.net} − {row.baseline}" if row.baseline else row.net


def _section(comparison: Comparison, one: Table, i: int) -> str:
    heading = f"<h2>{escape(one.way[0].upper() + one.way[1:])}</h2>\n"
    shown = table(head(comparison, has_paper(one)), cells(comparison, one), numbers_from=1)
    compared = [
        row for row in one.rows if row.net != comparison.baseline and not math.isnan(row.difference.half)
    ]
    if not (comparison.baseline and compared):
        return heading + shown
    names, values, halves = zip(
        *((_versus(r), r.difference.value, r.difference.half) for r in compared), strict=True
    )
    papers = [row.paper_difference for row in compared]
    svg = plots.intervals(names, values, halves, papers, f"{one.way}: points minus {comparison.baseline}")
    return f'{heading}{shown}\n<div class="scroll" role="img" aria-label="differences">{svg}</div>'
