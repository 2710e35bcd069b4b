"""Training by the real Caffe, iteration by iteration, from the start and from its own snapshots."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.proto import pb
from crnn.proto.text import load
from crnn.proto.upgrade import read_solver
from crnn.solver.solver import Solver
from crnn.testing import assert_near, golden

CASES = [
    "sgd_step",
    "sgd_exp",
    "sgd_inv",
    "sgd_poly",
    "sgd_sigmoid",
    "sgd_multistep_l1",
    "sgd_iter_size_clip",
    "nesterov",
    "adagrad",
    "rmsprop",
    "adadelta",
    "adam",
]
TOLERANCE = 2e-6


@pytest.fixture(params=CASES)
def case(request, tmp_path, monkeypatch):
    """The golden's arrays; the current folder has its net, solver and Caffe's snapshot after 5 iterations."""
    folder = golden(f"solvers/{request.param}")
    for file in folder.iterdir():
        shutil.copy(file, tmp_path / file.name)
    Path(tmp_path / "mid.caffemodel").rename(tmp_path / "snap_iter_5.caffemodel")  # as mid.solverstate has it
    monkeypatch.chdir(tmp_path)
    return np.load(folder / "golden.npz")


def blobs(net, key="{layer}/{index}"):
    return {key.format(layer=p.layer, index=p.index): p.parameter for p in net.params}


def start(solver, arrays):
    with torch.no_grad():
        for name, blob in blobs(solver.net).items():
            blob.copy_(torch.from_numpy(arrays[f"init/{name}"]))


def follow(solver, arrays, first, last):
    """Feeds iterations first .. last-1 and compares every blob and loss after each."""
    for k in range(first, last):
        solver.step(1, {name: torch.from_numpy(arrays[f"in/{name}"][k]) for name in ("data", "label")})
        assert solver.smoothed_loss == pytest.approx(float(arrays["loss"][k]), rel=1e-5)
        for name, blob in blobs(solver.net).items():
            want = torch.from_numpy(arrays[f"param/{k + 1}/{name}"])
            assert_near(blob, want, TOLERANCE, f"{name} after {k + 1} iterations")


def test_from_the_start(case):
    solver = Solver("solver.prototxt")
    start(solver, case)
    follow(solver, case, 0, 10)


def test_from_caffes_snapshot(case):
    solver = Solver("solver.prototxt")
    solver.restore("mid.solverstate")
    assert solver.iter == 5
    follow(solver, case, 5, 10)


def test_our_snapshot_is_caffes(case):
    """After the same five iterations the same messages, field by field, numbers to 2e-6."""
    solver = Solver("solver.prototxt")
    start(solver, case)
    follow(solver, case, 0, 5)
    Path("snap_iter_5.caffemodel").rename("caffe.caffemodel")
    assert solver.snapshot() == "snap_iter_5.solverstate"
    same_messages("snap_iter_5.solverstate", "mid.solverstate", pb.SolverState)
    same_messages("snap_iter_5.caffemodel", "caffe.caffemodel", pb.NetParameter)


def test_snapshot_of_a_net_with_data(logged):
    """Caffe's last snapshot of its logged run: the same messages but for the numbers in the blobs."""
    Path("solver.prototxt").write_text(golden("tools/logged_solver.prototxt").read_text())
    Solver("solver.prototxt").solve()
    for kind, message in (("caffemodel", pb.NetParameter), ("solverstate", pb.SolverState)):
        name = f"logged_iter_30.{kind}"
        pair = [message.FromString(path.read_bytes()) for path in (Path(name), golden(f"tools/{name}"))]
        for one in pair:
            take_blobs(one)
        assert pair[0] == pair[1]


def same_messages(ours, caffes, kind):
    pair = [kind.FromString(Path(path).read_bytes()) for path in (ours, caffes)]
    numbers = [[np.array(blob.data) for blob in take_blobs(message)] for message in pair]
    for a, b in zip(*numbers, strict=True):
        assert_near(torch.from_numpy(a), torch.from_numpy(b), TOLERANCE)
    assert pair[0] == pair[1]


def take_blobs(message):
    """The message's blobs with their numbers; the message keeps only the shapes."""
    own = message.history if isinstance(message, pb.SolverState) else []
    found = [*own, *(blob for layer in getattr(message, "layer", []) for blob in layer.blobs)]
    copies = [pb.BlobProto.FromString(blob.SerializeToString()) for blob in found]
    for blob in found:
        blob.ClearField("data")
    return copies


CRNN4 = """
name: "crnn4"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 4 dim: 6 dim: 3 dim: 3 }} }} }}
layer {{ name: "label" type: "Input" top: "label" input_param {{ shape {{ dim: 4 }} }} }}
layer {{ name: "rnn" type: "SpatialRNN" bottom: "data" top: "rnn"
  spatial_rnn_param {{ num_output: 6 line_break: "{line_break}" }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "rnn" top: "fc" inner_product_param {{ num_output: 5 }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
"""


@pytest.mark.parametrize("case, line_break", [("full", "carry"), ("truncated", "carry_value")])
def test_crnn4(case, line_break):
    """The recurrent layer trained with momentum, decay and a rate step: the real Caffe unrolled it."""
    folder = golden(f"solvers/crnn4_{case}_train")
    arrays = np.load(folder / "golden.npz")
    param = read_solver(str(folder / "solver.prototxt")).message
    param.ClearField("net")
    param.net_param.CopyFrom(load(CRNN4.format(line_break=line_break), pb.NetParameter).message)
    solver = Solver(param)
    names = {"rnn/0": "wih", "rnn/1": "b", "rnn/2": "whh", "fc/0": "fc/0", "fc/1": "fc/1"}
    own = {names[name]: blob for name, blob in blobs(solver.net).items()}
    with torch.no_grad():
        for name, blob in own.items():
            blob.copy_(torch.from_numpy(arrays[f"init/{name}"]))
    for k in range(12):
        solver.step(1, {name: torch.from_numpy(arrays[f"in/{name}"][k]) for name in ("data", "label")})
        for name, blob in own.items():
            want = torch.from_numpy(arrays[f"param/{k + 1}/{name}"])
            assert_near(blob, want, 1e-5, f"{name} after {k + 1} iterations")
