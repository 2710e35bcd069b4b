"""Nets and solvers that the real Caffe has run, by way of pycaffe: write arrays, forward, backward, step."""

import shutil

import numpy as np
import pytest
import torch

import crnn.pycaffe as caffe
from crnn.testing import assert_near, golden

LAYERS = sorted(folder.name for folder in golden("layers").iterdir())
SOLVERS = sorted(folder.name for folder in golden("solvers").iterdir() if not folder.name.startswith("crnn4"))
LOOSE = ("lrn", "batchnorm", "alexnet")


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setenv("GLOG_minloglevel", "2")


def under(arrays, prefix):
    return {key.removeprefix(prefix): arrays[key] for key in arrays if key.startswith(prefix)}


def fill_params(net, arrays):
    for key, values in arrays.items():
        layer, index = key.rsplit("/", 1)
        net.params[layer][int(index)].data[...] = values


def near(got, want, tolerance, what):
    assert_near(torch.from_numpy(got), torch.from_numpy(want), tolerance, what)


def phase_of(case):
    return caffe.TRAIN if case == "batchnorm_train_scale" else caffe.TEST


@pytest.mark.parametrize("case", LAYERS)
def test_a_net_computes_what_caffe_does(case):
    arrays = dict(np.load(golden(f"layers/{case}") / "golden.npz"))
    tolerance = 1e-5 if case.startswith(LOOSE) else 2e-6
    net = caffe.Net(str(golden(f"layers/{case}") / "net.prototxt"), phase_of(case))
    fill_params(net, under(arrays, "param/"))
    for name, values in under(arrays, "in/").items():
        net.blobs[name].data[...] = values
    net.forward()
    for name, want in under(arrays, "out/").items():
        near(net.blobs[name].data, want, tolerance, name)
    for name, values in under(arrays, "dtop/").items():
        net.blobs[name].diff[...] = values
    net.backward()
    for name, want in under(arrays, "din/").items():
        near(net.blobs[name].diff, want, tolerance, f"d{name}")
    for name, want in under(arrays, "dparam/").items():
        layer, index = name.rsplit("/", 1)
        near(net.params[layer][int(index)].diff, want, tolerance, f"d{name}")
    shapes = {name: blob.shape for name, blob in net.blobs.items()}
    net.reshape()
    assert {name: blob.shape for name, blob in net.blobs.items()} == shapes


@pytest.mark.parametrize("case", SOLVERS)
def test_a_solver_learns_what_caffe_does(case, tmp_path, monkeypatch):
    shutil.copytree(golden(f"solvers/{case}"), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    arrays = dict(np.load("golden.npz"))
    solver = caffe.get_solver("solver.prototxt")
    fill_params(solver.net, under(arrays, "init/"))
    for k, loss in enumerate(arrays["loss"]):
        for name in ("data", "label"):
            solver.net.blobs[name].data[...] = arrays[f"in/{name}"][k]
        solver.step(1)
        assert solver.net.blobs["loss"].data == pytest.approx(float(loss), rel=1e-5)
        for name, want in under(arrays, f"param/{k + 1}/").items():
            layer, index = name.rsplit("/", 1)
            near(solver.net.params[layer][int(index)].data, want, 2e-6, f"{name} after {k + 1}")
