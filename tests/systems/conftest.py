"""A folder in which the ILSVRC systems find everything that their prototxts name, and nets with weights."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto.blobs import write_mean
from crnn.proto.upgrade import read_solver
from crnn.solver.solver import Solver

SYSTEMS = Path(__file__).resolve().parents[2] / "prototxt_like"


@pytest.fixture(scope="session")
def ilsvrc(tmp_path_factory):
    """prototxt_like/ with data/ilsvrc2012/ beside it: two 256 x 256 images to train, two to test."""
    folder = tmp_path_factory.mktemp("ilsvrc")
    shutil.copytree(SYSTEMS, folder / "prototxt_like")
    data, rng = folder / "data" / "ilsvrc2012", np.random.default_rng(0)
    data.mkdir(parents=True)
    for name in ("train_lmdb", "val_lmdb"):
        with LmdbWriter(data / name) as database:
            for label in (7, 999):
                image = rng.integers(0, 256, (3, 256, 256), np.uint8)
                database.put(b"%08d" % label, encode(image, label))
    write_mean(data / "mean.binaryproto", np.full((3, 256, 256), 120, np.float32))
    return folder


@pytest.fixture
def here(ilsvrc, monkeypatch):
    """Makes that folder the current one."""
    monkeypatch.chdir(ilsvrc)


@pytest.fixture
def solver(here):
    """solver(system): its Solver as the file says, but that it does not begin with 50,000 test images.

    solver(system, net): on another train net, a NetParameter, and without test nets.
    """

    def make(system, net=None):
        param = read_solver(f"prototxt_like/{system}/solver.prototxt").message
        param.test_initialization, param.random_seed = False, 1
        if net is not None:
            param.net_param.CopyFrom(net)
            for field in ("net", "test_iter", "test_interval"):
                param.ClearField(field)
        return Solver(param)

    return make


@pytest.fixture
def images():
    """images(n): [n, 3, 227, 227] with the spread of images less their mean."""
    return lambda n: 60 * torch.randn(n, 3, 227, 227, generator=torch.Generator().manual_seed(n))


@pytest.fixture
def moved(images):
    """moved(solver): the names of the blobs that one iteration on two images changes."""

    def step(solver):
        before = [param.blob.detach().clone() for param in solver.params]
        solver.step(1, {"data": images(2), "label": torch.tensor([7.0, 999.0])})
        return [p.name for old, p in zip(before, solver.params, strict=True) if not p.blob.equal(old)]

    return step


@pytest.fixture
def randomise():
    """randomise(net): weights under which signals keep their size, and biases, all from a fixed seed."""

    @torch.no_grad()
    def fill(net):
        rng = torch.Generator().manual_seed(5)
        for blob in net.parameters():
            fan_in = math.prod(blob.shape[1:])
            blob.normal_(0, math.sqrt(2 / fan_in) if blob.dim() > 1 else 0.1, generator=rng)
        return net

    return fill
