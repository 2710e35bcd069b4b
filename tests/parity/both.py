"""One net in both: crnn here, the real Caffe in its own process; the worst difference between them."""

import io
import os
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from crnn.net.net import Net
from crnn.testing import ROOT, relative_error

ORACLE = ROOT / "build" / "oracle" / "bin" / "python"


@dataclass
class Case:
    """A net with one layer under test, and what to feed it.

    text: its layers.    inputs: the Input blobs' values.    dtops: the gradients put on tops; none: the net
    has a loss.    backward: whether there is one.    forwards: how often it is run before the backward.
    parameters: blobs by (layer, index) where a standard normal will not do.
    """

    text: str
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    dtops: dict[str, np.ndarray] = field(default_factory=dict)
    phase: str = "TRAIN"
    backward: bool = True
    forwards: int = 1
    parameters: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)
    force: bool = True
    seed: int = 0

    @property
    def prototxt(self) -> str:
        inputs = [
            f'layer {{ name: "{name}" type: "Input" top: "{name}" '
            f"input_param {{ shape {{ {dims(x.shape)} }} }} }}"
            for name, x in self.inputs.items()
        ]
        return "\n".join([f"force_backward: {str(self.force).lower()}", *inputs, self.text])


def dims(shape) -> str:
    return " ".join(f"dim: {size}" for size in shape)


class Aborted(Exception):
    """Caffe ended its process: the net is wrong."""


class Oracle:
    """The process that runs tests/parity/oracle.py; begun again where Caffe ended it."""

    def __init__(self, python: Path = ORACLE):
        self.python, self.process = python, None

    def ask(self, **arrays) -> dict[str, np.ndarray]:
        if self.process is None:
            self.process = subprocess.Popen(
                [self.python, Path(__file__).with_name("oracle.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": ""},
            )
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        self.process.stdin.write(struct.pack("<Q", buffer.tell()) + buffer.getvalue())
        self.process.stdin.flush()
        head = self.process.stdout.read(8)
        if len(head) < 8:
            self.close()
            raise Aborted
        with np.load(io.BytesIO(self.process.stdout.read(struct.unpack("<Q", head)[0]))) as answer:
            return dict(answer)

    def close(self) -> None:
        if self.process is not None:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def compare(case: Case, oracle: Oracle) -> dict[str, float]:
    """The relative error (Frobenius) of every blob and gradient, by name."""
    net = Net(case.prototxt, phase=case.phase)
    parameters = fill(net, case)
    request = {f"in/{name}": value for name, value in case.inputs.items()}
    request |= {f"param/{name}": value for name, value in parameters.items()}
    request |= {f"dtop/{name}": value for name, value in case.dtops.items()}
    options = {"net": case.prototxt, "phase": ("TRAIN", "TEST").index(case.phase), "forwards": case.forwards}
    want = oracle.ask(**options, backward=case.backward, **request)
    if "error" in want:
        raise AssertionError(str(want["error"]))
    return {
        name: relative_error(value, torch.from_numpy(want[name])) for name, value in run(net, case).items()
    }


def refused(text: str, oracle: Oracle) -> tuple[bool, bool]:
    """Whether crnn and Caffe refuse a net."""
    try:
        Net(text)
        here = False
    except ValueError:
        here = True
    try:
        oracle.ask(net=text, phase=0, forwards=0, backward=False)
        there = False
    except Aborted:
        there = True
    return here, there


def fill(net: Net, case: Case) -> dict[str, np.ndarray]:
    """Gives every blob of the net a value, the case's or normal numbers; returns them by `layer/index`."""
    rng, values = np.random.default_rng(case.seed), {}
    for layer in net.layers:
        for index, blob in enumerate(layer.blobs):
            value = case.parameters.get((layer.name, index))
            if value is None:
                value = rng.normal(size=tuple(blob.shape)) * 0.5
            values[f"{layer.name}/{index}"] = np.asarray(value, np.float32).reshape(tuple(blob.shape))
            blob.data.copy_(torch.from_numpy(values[f"{layer.name}/{index}"]))
    return values


def run(net: Net, case: Case) -> dict[str, torch.Tensor]:
    """out/, din/ and dparam/ as the oracle names them; no gradient is zeros."""
    for _ in range(case.forwards):
        net(**{name: torch.from_numpy(value) for name, value in case.inputs.items()})
    found = {f"out/{name}": blob for name, blob in net.blobs.items()}
    if not case.backward:
        return found
    parts = [(net.blobs[name] * torch.from_numpy(value)).sum() for name, value in case.dtops.items()]
    objective = sum(parts) + (net.loss() if net.loss_weights else 0)
    if objective.requires_grad:
        objective.backward()

    def gradient(blob):
        return torch.zeros_like(blob) if blob.grad is None else blob.grad

    found |= {f"din/{name}": gradient(net.blobs[name]) for name in case.inputs}
    for layer in net.layers:
        for i in range(len(layer.blobs)):
            found[f"dparam/{layer.name}/{i}"] = gradient(layer.blobs.parameter(i))
    return found
