"""snapshot_diff: the diffs in a snapshot are what the last update subtracted, as Caffe leaves them."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.net import weights
from crnn.proto import hdf5, pb
from crnn.proto.blobs import read_binary, to_array
from crnn.solver.solver import Solver
from crnn.testing import ROOT, golden, relative_error

ORACLE = ROOT / "build/oracle/bin/python"
NET = """
layer { name: "in" type: "Input" top: "x" top: "t"
  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 dim: 2 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 2
  weight_filler { type: "gaussian" } } param { name: "w" } param { lr_mult: 0 } }
layer { name: "b" type: "InnerProduct" bottom: "x" top: "z" param { name: "w" }
  inner_product_param { num_output: 2 bias_term: false } }
layer { name: "sum" type: "Eltwise" bottom: "y" bottom: "z" top: "s" }
layer { name: "loss" type: "EuclideanLoss" bottom: "s" bottom: "t" top: "loss" }
"""
SOLVERS = sorted(path.parent.name for path in golden("solvers").glob("*/mid.caffemodel"))
RULES = {
    "SGD": "momentum: 0.9 weight_decay: 0.1",
    "Nesterov": "momentum: 0.9 regularization_type: 'L1' weight_decay: 0.1",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9 iter_size: 2",
    "AdaDelta": "momentum: 0.9 delta: 1e-4",
    "Adam": "momentum: 0.9 clip_gradients: 0.1",
}


def solver(tmp_path, kind="SGD", *fields) -> Solver:
    head = [f'type: "{kind}" {RULES[kind]}', 'base_lr: 0.1 lr_policy: "fixed" random_seed: 3', *fields]
    return Solver("\n".join([*head, f'snapshot_prefix: "{tmp_path}/s"', f"net_param {{ {NET} }}"]))


def feed():
    generator = torch.Generator().manual_seed(7)
    return {"x": torch.randn(2, 3, generator=generator), "t": torch.randn(2, 2, generator=generator)}


@pytest.mark.parametrize("kind", RULES)
def test_the_diff_is_what_the_last_update_subtracted(tmp_path, kind):
    ours, plain = solver(tmp_path, kind, "snapshot_diff: true"), solver(tmp_path, kind)
    ours.step(3, feed()), plain.step(3, feed())
    before = ours.net.layer("a").blobs[0].detach().clone()
    ours.step(1, feed()), plain.step(1, feed())
    ours.snapshot()
    (_, a, b, *_) = read_binary(tmp_path / "s_iter_4.caffemodel", pb.NetParameter).layer
    diff = to_array(a.blobs[0], "diff")
    np.testing.assert_allclose(diff, before - ours.net.layer("a").blobs[0].detach(), rtol=1e-3, atol=1e-6)
    assert to_array(a.blobs[1], "diff").tolist() == [0, 0]  # lr_mult 0
    assert np.array_equal(to_array(b.blobs[0], "diff"), diff)  # shared
    for p, q in zip(ours.params, plain.params, strict=True):  # the training is the same to the bit
        assert torch.equal(p.blob, q.blob) and all(map(torch.equal, p.history, q.history))


def test_sgd_leaves_its_velocity(tmp_path):
    ours = solver(tmp_path, "SGD", "snapshot_diff: true")
    ours.step(2, feed())
    ours.snapshot()
    layer = read_binary(tmp_path / "s_iter_2.caffemodel", pb.NetParameter).layer[1]
    assert (
        relative_error(torch.from_numpy(to_array(layer.blobs[0], "diff")), ours.params[0].history[0]) < 1e-6
    )


def test_without_it_no_diff_is_written_nor_computed(tmp_path):
    ours = solver(tmp_path)
    ours.step(1, feed())
    ours.snapshot()
    layers = read_binary(tmp_path / "s_iter_1.caffemodel", pb.NetParameter).layer
    assert not any(blob.diff for layer in layers for blob in layer.blobs)
    assert not ours.leaves_moves


def test_in_hdf5_every_sharer_has_its_diff(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5]")
    ours = solver(tmp_path, "SGD", "snapshot_diff: true snapshot_format: HDF5")
    ours.step(2, feed())
    ours.snapshot()
    with h5py.File(tmp_path / "s_iter_2.caffemodel.h5") as file:
        assert list(file["data/a"]) == ["0", "1"] and list(file["data/b"]) == []
        assert np.array_equal(file["diff/a/0"], file["diff/b/0"]) and np.any(file["diff/a/0"])
    assert set(hdf5.read_weights(tmp_path / "s_iter_2.caffemodel.h5")["a"]) == {0, 1}


def test_weights_with_diffs_are_loaded_and_resumed_from(tmp_path):
    ours, other = (solver(tmp_path, "Adam", "snapshot_diff: true") for _ in range(2))
    ours.step(2, feed())
    other.restore(ours.snapshot())
    ours.step(1, feed()), other.step(1, feed())
    assert all(torch.equal(p.blob, q.blob) for p, q in zip(ours.params, other.params, strict=True))
    assert "a" in weights.load(other.net, tmp_path / "s_iter_2.caffemodel").copied


@pytest.mark.skipif(not ORACLE.exists(), reason="runs where `make oracle` has built the real Caffe")
@pytest.mark.parametrize("name", SOLVERS)
def test_diffs_equal_those_of_the_real_caffe(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ("golden.npz", "net.prototxt", "solver.prototxt"):
        shutil.copy(golden(f"solvers/{name}") / file, tmp_path)
    with open("solver.prototxt", "a") as text:
        text.write("snapshot_diff: true\n")
    program = ROOT / "tests/parity/resume.py"
    subprocess.run([ORACLE, program, "solver.prototxt", "golden.npz", "0", "5", "out.npz"], check=True)
    (model,) = Path().glob("*_iter_5.caffemodel")
    want = read_binary(model, pb.NetParameter)
    os.remove(model)
    arrays, ours = dict(np.load("golden.npz")), Solver("solver.prototxt")
    with torch.no_grad():
        for param in ours.net.params:
            param.parameter.copy_(torch.from_numpy(arrays[f"init/{param.layer}/{param.index}"]))
    for k in range(5):
        ours.step(1, {name: torch.from_numpy(arrays[f"in/{name}"][k]) for name in ("data", "label")})
    ours.snapshot()
    got = {layer.name: layer.blobs for layer in read_binary(model, pb.NetParameter).layer if layer.blobs}
    for layer in want.layer:
        for mine, theirs in zip(got.get(layer.name, ()), layer.blobs, strict=True):
            for which in ("data", "diff"):
                a, b = (torch.from_numpy(to_array(blob, which)) for blob in (mine, theirs))
                assert relative_error(a, b) <= 1e-5 if b.any() else not a.any()
