"""The page: sections in reading order, every text of the caller escaped, no address outside the file."""

import math
import os
from html import escape
from pathlib import Path

import numpy as np

from crnn.report import plots, sight
from crnn.report.content import Difference, Layer, Mistake, NetResult, Report, Sight
from crnn.report.style import STYLE


def write(path: str | os.PathLike, report: Report) -> None:
    """Writes the page, whole or not at all. Raises OSError where it cannot be written."""
    write_text(path, page(report))


def write_text(path: str | os.PathLike, text: str) -> None:
    partial = Path(f"{path}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def page(report: Report) -> str:
    """The page's HTML, the same for equal reports."""
    sections = [
        f"<h1>{escape(report.title)}</h1>\n<p>{escape(report.summary)}</p>",
        headline(report),
        training(report.nets),
        confusions(report),
        per_class(report),
        *(mistakes(net, i, report.classes) for i, net in enumerate(report.nets) if net.mistakes),
        sight.section(report.sights),
        definitions(report.nets),
        run(report),
    ]
    return document(report.title, sections)


def write_sights(path: str | os.PathLike, title: str, summary: str, sights: list[Sight]) -> None:
    """Writes a page of what is seen of some images, whole or not at all. Raises OSError."""
    head = f"<h1>{escape(title)}</h1>\n<p>{escape(summary)}</p>"
    write_text(path, document(title, [head, sight.section(sights)]))


def document(title: str, sections: list[str]) -> str:
    """The HTML of a page of these sections; empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(f"<section>\n{section}\n</section>" for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def headline(report: Report) -> str:
    cards = [_net_card(net, plots.colour(i)) for i, net in enumerate(report.nets)]
    if report.differences:
        names = [net.name for net in report.nets[:2]]
        cards.append(_difference_card(names, report.differences))
    return f'<div class="cards">\n{chr(10).join(cards)}\n</div>'


def _net_card(net: NetResult, colour: str) -> str:
    *others, (way, share) = net.accuracy.items()
    rest = "".join(f"<p>{percent(value)} with {escape(name)}</p>" for name, value in others)
    return (
        f'<div class="card" style="border-color:{colour}"><h2>{escape(net.name)}</h2>'
        f'<p class="figure">{percent(share)}</p><p>top-1 with {escape(way)}</p>{rest}'
        f'<p class="small">{escape(net.about)}</p></div>'
    )


def _difference_card(names: list[str], differences: list[Difference]) -> str:
    *others, last = differences
    rest = "".join(f"<p>{points(d.value)} with {escape(d.way)} ({interval(d)})</p>" for d in others)
    return (
        f'<div class="card"><h2>{escape(" minus ".join(names))}</h2>'
        f'<p class="figure">{points(last.value)}</p><p>points with {escape(last.way)}</p>'
        f"<p>95 % interval {interval(last)}</p>{rest}"
        f'<p class="small">{escape(last.text)}</p></div>'
    )


def training(nets: list[NetResult]) -> str:
    charts = [
        plots.curves({net.name: net.loss for net in nets}, "training loss"),
        plots.curves({net.name: net.test_loss for net in nets}, "test loss"),
        plots.curves({net.name: net.test_accuracy for net in nets}, "test accuracy, %", scale=100),
        plots.curves({net.name: net.images_per_second for net in nets}, "training, images/s", from_zero=True),
    ]
    names = ("Training loss", "Test loss", "Test accuracy", "Training speed in images per second")
    return "<h2>Training</h2>\n" + _figures(
        [(svg, f"{name} over iterations") for svg, name in zip(charts, names, strict=True)]
    )


def confusions(report: Report) -> str:
    way = list(report.nets[0].accuracy)[-1]
    matrices = [
        (plots.confusion(net.confusion, report.classes, plots.colour(i)), net.name)
        for i, net in enumerate(report.nets)
    ]
    text = f"Percent of each true class (row) that was taken for the class of the column, with {escape(way)}."
    return f"<h2>Confusion</h2>\n<p>{text}</p>\n{_figures(matrices)}"


def _figures(pictures: list[tuple[str, str]]) -> str:
    """SVGs side by side where there is room, each with its caption."""
    cells = [
        f'<figure><div class="scroll" role="img" aria-label="{escape(caption)}">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for svg, caption in pictures
    ]
    return f'<div class="pair">\n{chr(10).join(cells)}\n</div>'


def per_class(report: Report) -> str:
    nets = report.nets
    compared = len(nets) == 2
    head = ["class", "records", *(net.name for net in nets), *(["difference"] if compared else [])]
    rows = []
    for i, name in enumerate(report.classes):
        shares = [net.per_class[i] for net in nets]
        row = [name, f"{int(nets[0].confusion[i].sum()):,}", *map(percent, shares)]
        rows.append([*row, points(shares[0] - shares[1])] if compared else row)
    means = [np.nanmean(net.per_class) for net in nets]
    total = ["mean of the classes", f"{int(nets[0].confusion.sum()):,}", *map(percent, means)]
    rows.append([*total, points(means[0] - means[1])] if compared else total)
    return f"<h2>Classes</h2>\n{table(head, rows, numbers_from=1, total=True)}"


def mistakes(net: NetResult, i: int, classes: list[str]) -> str:
    items = "\n".join(_mistake(mistake, classes) for mistake in net.mistakes)
    return (
        f"<h2>What {escape(net.name)} got wrong most confidently</h2>\n"
        f"<p>True class → its answer, with the answer's probability.</p>\n"
        f'<div class="pictures" style="--net:{plots.colour(i)}">\n{items}\n</div>'
    )


def _mistake(mistake: Mistake, classes: list[str]) -> str:
    truth, answer = escape(classes[mistake.truth]), escape(classes[mistake.predicted])
    address, share = plots.picture(mistake.image), f"{100 * mistake.probability:.1f}&nbsp;%"
    return (
        f'<figure title="record {escape(mistake.key)}"><img src="{address}" alt="{truth}">'
        f"<figcaption>{truth} →<br><b>{answer}</b> {share}</figcaption></figure>"
    )


def definitions(nets: list[NetResult]) -> str:
    return f'<h2>Nets</h2>\n<div class="pair">\n{chr(10).join(map(_definition, nets))}\n</div>'


def _definition(net: NetResult) -> str:
    rows = [_layer_row(layer) for layer in net.layers]
    total = sum(layer.parameters for layer in net.layers)
    rows.append(["all layers", "", "", f"{total:,}"])
    layers = table(["layer", "type", "output", "parameters"], rows, numbers_from=2, total=True)
    return (
        f"<div><h3>{escape(net.name)}</h3>\n{layers}\n"
        f"<details><summary>Solver</summary><pre>{escape(net.solver)}</pre></details></div>"
    )


def _layer_row(layer: Layer) -> list[str]:
    shape = " × ".join(map(str, layer.shape)) or "scalar"
    return [layer.name, layer.type, shape, f"{layer.parameters:,}" if layer.parameters else ""]


def run(report: Report) -> str:
    parts = []
    if report.commands:
        parts.append(f"<h2>Commands</h2>\n<pre>{escape(chr(10).join(report.commands))}</pre>")
    if report.times:
        rows = [[step, duration(seconds)] for step, seconds in report.times.items()]
        rows.append(["all steps", duration(sum(report.times.values()))])
        parts.append(f"<h2>Times</h2>\n{table(['step', 'time'], rows, numbers_from=1, total=True)}")
    if report.setup:
        rows = [[name, value] for name, value in report.setup.items()]
        parts.append(f"<h2>Setup</h2>\n{table([], rows)}")
    return "\n".join(parts)


def table(head: list[str], rows: list[list[str]], numbers_from: int = 99, total: bool = False) -> str:
    """A table that scrolls; right-aligned from column `numbers_from` on; `total`: the last row sums up."""

    def line(cells, tag: str, kind: str = "") -> str:
        marked = [
            f"<{tag}{' class=number' if j >= numbers_from else ''}>{escape(cell)}</{tag}>"
            for j, cell in enumerate(cells)
        ]
        return f"<tr{kind}>{''.join(marked)}</tr>"

    last = len(rows) - 1
    body = [line(row, "td", " class=total" if total and i == last else "") for i, row in enumerate(rows)]
    top = f"<thead>{line(head, 'th')}</thead>\n" if head else ""
    return f'<div class="scroll"><table>\n{top}<tbody>\n{chr(10).join(body)}\n</tbody></table></div>'


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed."""
    return "–" if math.isnan(difference) else f"{100 * difference:+.2f}".replace("-", "−")


def interval(d: Difference) -> str:
    return f"{points(d.low)} to {points(d.high)}"


def duration(seconds: float) -> str:
    """0.1 s, 1 min 05 s, 2 h 07 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
