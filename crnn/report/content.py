"""What a report shows, as plain data. Shares are within 0 and 1; the page makes percents of them."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Curve:
    """Values over iterations."""

    iterations: list[int]
    values: list[float]


@dataclass
class Mistake:
    """A record that a net got wrong: uint8 [H, W] or RGB [H, W, 3], its class, and the answer with its p."""

    image: np.ndarray
    key: str
    truth: int
    predicted: int
    probability: float


@dataclass
class Panel:
    """What one direction sees, or the directions' sum, or the score of the class.

    pixels: float [h, w], the norm of each pixel's gradient.    regions: [H, W], as much for the layer's own
    input, or None.    beyond: the share of `regions` outside of the region itself, or None.
    """

    name: str
    pixels: np.ndarray
    regions: np.ndarray | None = None
    beyond: float | None = None


@dataclass
class Sight:
    """What is seen of one image [h, w] or RGB [h, w, 3], uint8, by each direction from one region.

    caption: the answer.    layer, line_break, region: of the directions; None in a net without them.
    window: rows and columns (top, left, bottom, right) that the region sees without this layer's recurrence.
    """

    image: np.ndarray
    name: str
    caption: str
    panels: list[Panel]
    layer: str | None = None
    line_break: str | None = None
    region: tuple[int, int] | None = None
    window: tuple[int, int, int, int] | None = None


@dataclass
class Layer:
    """A row of the net's table; `shape` is one sample's top."""

    name: str
    type: str
    shape: tuple[int, ...]
    parameters: int


@dataclass
class NetResult:
    """One trained net.

    accuracy: share of right records by way of testing ("1 view" -> 0.9), the most telling last.
    confusion: [n, n] counts, a row a true class, of that last way.    per_class: float [n], nan where empty.
    """

    name: str
    about: str
    accuracy: dict[str, float]
    confusion: np.ndarray
    per_class: np.ndarray
    loss: Curve
    test_loss: Curve
    test_accuracy: Curve
    images_per_second: Curve
    mistakes: list[Mistake]
    layers: list[Layer]
    solver: str  # its text


@dataclass
class Difference:
    """First net minus second by one way of testing: `text` says how the 95 % interval was found."""

    way: str
    value: float
    low: float
    high: float
    text: str


@dataclass
class Report:
    """nets: in the order they are to stand, the one in question first.

    setup: name -> value (data, machine, versions).    commands: as typed.    times: step -> seconds.
    """

    title: str
    summary: str
    classes: list[str]
    nets: list[NetResult]
    differences: list[Difference] = field(default_factory=list)
    sights: list[Sight] = field(default_factory=list)
    setup: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
