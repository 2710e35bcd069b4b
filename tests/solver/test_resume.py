"""A training stopped anywhere and gone on with equals the unbroken one: weights, history, draws and log."""

from pathlib import Path

import pytest
import torch

from crnn.solver.events import Displayed, Scored
from crnn.solver.solver import Solver

LENGTH = 6  # iterations; the third reads over the end of the 12 records, five at a time
DROPOUT = 'layer { name: "drop" type: "Dropout" bottom: "conv1" top: "conv1" include { phase: TRAIN } }\n'
FIELDS = {"display": 1, "average_loss": 3, "test_iter": 1, "test_interval": 4, "max_iter": LENGTH}
KINDS = {
    "SGD": {},
    "iter_size": {"iter_size": 2},
    "bfloat16": {"precision": '"bfloat16"'},
    "float16": {"precision": '"float16"'},
    "Adam": {"type": '"Adam"', "momentum2": 0.999},
    "multistep": {"lr_policy": '"multistep"', "stepvalue": 3, "gamma": 0.1},
    "ten views": {},
}


class Log(list):
    """What a training tells, but for times."""

    def __call__(self, event) -> None:
        if isinstance(event, Displayed):
            self.append((event.iter, event.loss, event.lr, event.outputs))
        if isinstance(event, Scored):
            self.append((event.iter, event.loss, event.outputs))


@pytest.fixture
def solver(logged):
    """solver(kind, log): a solver whose net drops, crops and mirrors at random."""
    net = Path("logged_net.prototxt")
    text = net.read_text().replace("batch_size: 4", "batch_size: 5", 1)
    net.write_text(text.replace('layer { name: "fc"', DROPOUT + 'layer { name: "fc"'))

    def make(kind: str, log: Log) -> Solver:
        if kind == "ten views":
            net.write_text(
                net.read_text().replace("mirror: true crop_size: 32", "train_views: 10 crop_size: 32")
            )
        return Solver(logged(**FIELDS, **KINDS[kind]), [log])

    return make


def bits(one: Solver) -> list[torch.Tensor]:
    return [tensor for param in one.params for tensor in (param.blob.detach(), *param.history)]


@pytest.mark.parametrize("after", [1, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_stopped_anywhere_it_goes_on_to_the_bit(solver, kind, after):
    logs = Log(), Log(), Log()
    unbroken = solver(kind, logs[0])
    unbroken.solve()

    stopped = solver(kind, logs[1])
    asked = iter(["stop"])
    stopped.requests = lambda: next(asked, None) if stopped.iter == after else None
    assert not stopped.solve() and stopped.iter == after

    resumed = solver(kind, logs[2])
    resumed.restore(stopped.last_snapshot)
    assert resumed.solve()
    assert all(map(torch.equal, bits(resumed), bits(unbroken)))
    assert resumed.smoothed_loss == unbroken.smoothed_loss
    assert logs[1] + logs[2] == logs[0]
