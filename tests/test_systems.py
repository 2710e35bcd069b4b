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


def input_shape(system) -> list[int]:
    """[C, h, w] of the deploy net's input."""
    layer = read_net(ROOT / system / "deploy.prototxt").message.layer[0]
    assert layer.type == "Input", "a deploy.prototxt begins with an Input layer"
    return list(layer.input_param.shape[0].dim)[1:]


def without_data(system):
    """The training net with Inputs in place of its Data layers."""
    net = read_net(ROOT / system / "train_val.prototxt").message
    for layer in net.layer:
        if layer.type in SOURCES:
            layer.type = "Input"
            for shape in ([BATCH, *input_shape(system)], [BATCH])[: len(layer.top)]:
                layer.input_param.shape.add(dim=shape)
    return net


def blob_layers(net: Net) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of the blobs of each layer that has some."""
    return {
        layer.name: [tuple(blob.shape) for blob in layer.blobs] for layer in net.layers if len(layer.blobs)
    }


def test_system_does_one_training_step(system):
    text = read_solver(ROOT / system / "solver.prototxt").message
    assert Path(text.net) == ROOT.relative_to(ROOT.parent) / system / "train_val.prototxt"
    text.ClearField("net")
    text.net_param.CopyFrom(without_data(system))
    for field in ("test_iter", "test_interval", "snapshot", "display"):
        text.ClearField(field)
    solver = Solver(text)
    before = [param.blob.clone() for param in solver.params]
    data = torch.randn(BATCH, *input_shape(system))
    solver.step(1, {"data": data, "label": torch.zeros(BATCH)})
    for old, param in zip(before, solver.params, strict=True):
        assert not param.lr_mult or not torch.equal(old, param.blob), f"{param.name} did not move"


def test_deploy_net_is_the_trained_net(system):
    deploy = Net(str(ROOT / system / "deploy.prototxt"), phase="TEST")
    solver = pb.SolverParameter(net_param=without_data(system), base_lr=0.1, lr_policy="fixed")
    assert blob_layers(deploy) == blob_layers(Solver(solver).net)
    output = deploy(torch.zeros(BATCH, *input_shape(system)))
    for blob in output.values():
        torch.testing.assert_close(blob.sum(1), torch.ones(BATCH))


def test_system_has_a_readme(system):
    folder = ROOT / system
    readmes = [p / "README.md" for p in (folder, *folder.parents) if p != ROOT and ROOT in p.parents]
    assert any(path.exists() and len(path.read_text()) > 200 for path in readmes), "write its README.md"
