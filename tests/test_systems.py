"""Every system of prototxt_like builds, runs one training step on tiny inputs, and has a README.

A folder with a train_val.prototxt is a system. Its Data layers are replaced by Inputs of the shape that its
deploy.prototxt declares, so no data set is needed.
"""

from pathlib import Path

import pytest
import torch

from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.upgrade import read_net, read_solver
from crnn.solver.solver import Solver

ROOT = Path(__file__).resolve().parent.parent / "prototxt_like"
SYSTEMS = sorted(path.parent.relative_to(ROOT) for path in ROOT.rglob("train_val.prototxt"))
SOURCES = ("Data", "ImageData", "HDF5Data")
BATCH = 2

pytestmark = pytest.mark.parametrize("system", SYSTEMS, ids=str)


def inputs(system) -> dict[str, list[int]]:
    """Blob -> its shape without the batch, of the deploy net's inputs: data [C, h, w] first."""
    layers = read_net(ROOT / system / "deploy.prototxt").message.layer
    assert layers[0].type == "Input", "a deploy.prototxt begins with an Input layer"
    return {n.top[0]: list(n.input_param.shape[0].dim)[1:] for n in layers if n.type == "Input"}


def batch(system) -> dict[str, torch.Tensor]:
    """Random images; what else a net reads, as label paths, is 0."""
    shapes = {name: (BATCH, *shape) for name, shape in inputs(system).items()}
    return {n: torch.randn(s) if n == "data" else torch.zeros(s) for n, s in shapes.items()}


def without_data(system):
    """The training net with Inputs in place of its Data layers."""
    net = read_net(ROOT / system / "train_val.prototxt").message
    for layer in net.layer:
        if layer.type in SOURCES:
            layer.type = "Input"
            for shape in ([BATCH, *inputs(system)[layer.top[0]]], [BATCH])[: len(layer.top)]:
                layer.input_param.shape.add(dim=shape)
    return net


def blob_layers(net: Net) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of the blobs of each layer that has some."""
    return {
        layer.name: [tuple(blob.shape) for blob in layer.blobs] for layer in net.layers if len(layer.blobs)
    }


@torch.no_grad()
def fill_statistics(net: Net) -> None:
    """Variance 1, which weights would bring: divided by BatchNorm's own 0 a deep net's numbers overflow."""
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob in list(layer.blobs)[1:]:
                blob.fill_(1)


def test_system_does_one_training_step(system):
    text = read_solver(ROOT / system / "solver.prototxt").message
    assert Path(text.net) == ROOT.relative_to(ROOT.parent) / system / "train_val.prototxt"
    text.ClearField("net")
    text.net_param.CopyFrom(without_data(system))
    for field in ("test_iter", "test_interval", "snapshot", "display"):
        text.ClearField(field)
    solver = Solver(text)
    before = [param.blob.clone() for param in solver.params]
    solver.step(1, {**batch(system), "label": torch.zeros(BATCH)})
    for old, param in zip(before, solver.params, strict=True):
        assert not param.lr_mult or not torch.equal(old, param.blob), f"{param.name} did not move"


def test_deploy_net_is_the_trained_net(system):
    deploy = Net(str(ROOT / system / "deploy.prototxt"), phase="TEST")
    solver = pb.SolverParameter(net_param=without_data(system), base_lr=0.1, lr_policy="fixed")
    assert blob_layers(deploy) == blob_layers(Solver(solver).net)
    fill_statistics(deploy)
    output = deploy(**batch(system))
    for blob in output.values():
        sums = blob.sum(-1 if blob.dim() == 3 else 1)  # [T, N, classes] of label paths
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_system_has_a_readme(system):
    folder = ROOT / system
    readmes = [p / "README.md" for p in (folder, *folder.parents) if p != ROOT and ROOT in p.parents]
    assert any(path.exists() and len(path.read_text()) > 200 for path in readmes), "write its README.md"
