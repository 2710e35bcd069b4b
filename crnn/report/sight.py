"""What each direction sees, as pictures: the gradient's strength over the image, and over the regions."""

from html import escape

import numpy as np

from crnn.report import plots
from crnn.report.content import Panel, Sight

INK = np.array([213, 60, 0], float)  # the gradient's colour at full strength
FRAME = np.array([0, 90, 200], np.uint8)
SIDE = 208  # pixels at least of a picture's longer side, so that a frame is thin
ARROWS = {"right": "→", "left": "←", "down": "↓", "up": "↑", "mirror_left": "⇠", "mirror_up": "⇡"}


def section(sights: list[Sight]) -> str:
    """The part of a page; "" without images."""
    if not sights:
        return ""
    return f"<h2>{title(sights[0])}</h2>\n{about(sights[0])}\n" + "\n".join(map(row, sights))


def title(sight: Sight) -> str:
    return "What each direction sees" if sight.layer else "What the score of the class depends on"


def about(sight: Sight) -> str:
    """How the pictures were made and how to read them, once for all images."""
    score = (
        "<b>Class score</b>: the gradient of the best class's score, the input of the softmax, with respect "
        "to the image."
    )
    colour = "Colour is the norm of a pixel's gradient over the channels, as its square root."
    if not sight.layer:
        return f"<p>{score} {colour} The net has no SpatialRNN layer, so there are no directions to show.</p>"
    i, j = sight.region
    H, W = sight.panels[-1].regions.shape
    layer = f"SpatialRNN layer <b>{escape(sight.layer)}</b> ({H} × {W} regions)"
    steps = {
        "carry": "through all steps of the scan",
        "carry_value": "within a line of the scan only, as in training",
        "reset": "along its line, where the scan starts anew",
    }[sight.line_break]
    return (
        f"<p>h<sup>k</sup><sub>p</sub> is the state of direction k of {layer} at region p, "
        f"row {i}, column {j} (from 0). <b>Each direction</b> shows its gradient "
        "∂(Σ<sub>d</sub> h<sup>k</sup><sub>p,d</sub>)/∂x with respect to the image x, "
        f"taken {steps}; <b>sum</b> shows the gradients added. {score}</p>\n"
        f"<p>{colour} The directions of an image have one scale, sum and class score their own. The frame "
        "is all that the region sees without this layer's recurrence: colour outside of it came along the "
        "scan. The small picture is the same with respect to the layer's own input, region by region; "
        "<i>beyond</i> is the share of it that lies outside of region p.</p>"
    )


def row(sight: Sight) -> str:
    """The pictures of one image."""
    answer, *others = map(escape, sight.caption.splitlines())
    caption = "<br>".join([escape(sight.name), f"<b>{answer}</b>", *others])
    cells = [_figure([_framed(_colours(sight.image), sight.window, SIDE)], sight.name, caption)]
    directions = [panel for panel in sight.panels if panel.name in ARROWS]
    for panel in sight.panels:
        cells.append(_panel(sight, panel, directions if panel.name in ARROWS else [panel]))
    return f'<div class="sight">\n{chr(10).join(cells)}\n</div>'


def _panel(sight: Sight, panel: Panel, peers: list[Panel]) -> str:
    """One panel's figure; `peers` are those that it shares its scale with."""
    name = f"{ARROWS.get(panel.name, '')} {panel.name}".strip()
    caption = escape(name) if panel.pixels.any() else f"{escape(name)}: nothing"
    scale = max(peer.pixels.max() for peer in peers)
    window = None if panel.regions is None else sight.window
    pictures = [_framed(overlay(sight.image, panel.pixels / (scale or 1)), window, SIDE)]
    if panel.regions is not None:
        i, j = sight.region
        scale = max(peer.regions.max() for peer in peers)
        blank = np.full(panel.regions.shape, 255, np.uint8)
        grid = overlay(blank, panel.regions / (scale or 1))
        pictures.append(_framed(grid, (i, j, i + 1, j + 1), SIDE // 2))
    if panel.beyond is not None:
        caption += f"<br>{100 * panel.beyond:.0f}&nbsp;% beyond"
    return _figure(pictures, name, caption)


def _figure(pictures: list[np.ndarray], name: str, caption: str) -> str:
    first, *below = [f'<img src="{plots.picture(one)}" alt="{escape(name)}">' for one in pictures]
    return f"<figure>{first}<figcaption>{caption}</figcaption>{''.join(below)}</figure>"


def overlay(image: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGB [h, w, 3], uint8: the image [h, w] or [h, w, 3] in pale grey, under `alpha` [h, w], 0 to 1, whose
    square root is the share of the colour."""
    pale = 255 - 0.35 * (255 - _colours(image).mean(-1, keepdims=True))
    share = np.sqrt(alpha)[..., None]
    return (pale * (1 - share) + INK * share).round().astype(np.uint8)


def _colours(image: np.ndarray) -> np.ndarray:
    """RGB of uint8 [h, w] or [h, w, 3]."""
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, -1)


def _framed(image: np.ndarray, window: tuple[int, int, int, int] | None, side: int) -> np.ndarray:
    """The image, enlarged pixel by pixel to `side` or more on its longer side, with the window's outline."""
    factor = -(-side // max(image.shape[:2]))
    image = image.repeat(factor, 0).repeat(factor, 1)
    if window:
        top, left, bottom, right = (edge * factor for edge in window)
        edges = np.ones(image.shape[:2], bool)
        edges[:top], edges[bottom:], edges[:, :left], edges[:, right:] = False, False, False, False
        edges[top + 2 : bottom - 2, left + 2 : right - 2] = False
        image[edges] = FRAME
    return image
