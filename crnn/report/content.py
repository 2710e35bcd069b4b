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
    setup: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
