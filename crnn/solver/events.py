"""What a solver tells its listeners. A listener is any callable that takes one event."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Output:
    """One number of an output blob; `weight` is the blob's loss weight, 0 where it is no loss."""

    name: str
    value: float
    weight: float = 0.0


@dataclass(frozen=True)
class Note:
    """A line in Caffe's words, and the place in Caffe's source that prints it."""

    where: str  # "solver.cpp:464"
    text: str
    shown: bool = False  # also to who watches a progress bar
    severity: str = "I"  # glog's letter


@dataclass(frozen=True)
class Started:
    """The loop begins (again) at `iter`; rows of this iteration and later ones will come anew."""

    iter: int
    max_iter: int


@dataclass(frozen=True)
class Stepped:
    """One iteration was computed; its update follows."""

    iter: int
    loss: float  # smoothed over average_loss iterations
    images: int  # of all iter_size passes


@dataclass(frozen=True)
class Displayed:
    """Every `display` iterations, after Stepped and before the update."""

    iter: int
    loss: float
    lr: float
    outputs: tuple[Output, ...]  # of the last pass
    seconds: float  # since Started
    lapse: float  # since the last Displayed
    iterations: int  # done in `lapse`
    images_per_second: float
    every: int  # the solver's `display`


@dataclass(frozen=True)
class Scoring:
    """Test net `net` is about to run at `iter`."""

    iter: int
    net: int


@dataclass(frozen=True)
class Scored:
    """Test net `net` has run: the outputs are means over its test_iter batches."""

    iter: int
    net: int
    outputs: tuple[Output, ...]
    loss: float | None  # with test_compute_loss
    seconds: float


@dataclass(frozen=True)
class Finished:
    """solve() is over: done, stopped early or failed."""

    iter: int


Event = Note | Started | Stepped | Displayed | Scoring | Scored | Finished


def outputs_of(net, blobs) -> tuple[Output, ...]:
    """Every number of every output blob, in Caffe's (alphabetical) order of the blobs."""
    return tuple(
        Output(name, value, float(net.loss_weights.get(name, 0)))
        for name, blob in blobs.items()
        for value in blob.detach().flatten().tolist()
    )
