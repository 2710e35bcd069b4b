"""pycaffe's solvers: a loop in the user's hands."""

import numpy as np
import pytest
import torch

import crnn.pycaffe as caffe
from crnn.pycaffe.blob import Mirror
from crnn.solver.solver import Solver

NET = """
layer { name: "data" type: "DummyData" top: "data" top: "goal" dummy_data_param {
  shape { dim: 2 dim: 3 } shape { dim: 2 dim: 1 } data_filler { value: 1 } data_filler { value: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 1 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "goal" top: "loss" }
"""
PLAIN = {"base_lr": 0.5, "lr_policy": '"fixed"', "max_iter": 4, "snapshot_after_train": "false"}


@pytest.fixture
def solver_file(tmp_path, monkeypatch):
    """solver_file(max_iter=2) -> a solver's path, its net in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)

    def write(**fields):
        lines = [f"{key}: {value}" for key, value in {"net": '"net.prototxt"', **PLAIN, **fields}.items()]
        (tmp_path / "solver.prototxt").write_text("\n".join(lines))
        return "solver.prototxt"

    return write


def test_a_solver_is_of_the_type_its_file_names_or_of_its_class(solver_file):
    assert type(caffe.get_solver(solver_file(type='"Adam"'))) is caffe.AdamSolver
    assert caffe.NesterovSolver("solver.prototxt").param.type == "Nesterov"
    assert isinstance(caffe.get_solver("solver.prototxt"), caffe.SGDSolver)


def test_a_step_leaves_outputs_weights_and_the_step_in_the_blobs(solver_file):
    solver = caffe.get_solver(solver_file())
    solver.net.params["ip"][0].data[...] = 0.25
    solver.step(1)
    # By hand: ip = 0.75, so d = ip - goal = -1.25, the loss 2 d² / (2·2) and dW = Σ_rows d x / 2 = -1.25.
    assert solver.net.blobs["loss"].data == np.float32(0.78125)
    np.testing.assert_array_equal(solver.net.params["ip"][0].diff, [[-0.625] * 3])
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, [[0.875] * 3])
    assert (solver.iter, solver.lr) == (1, 0.5)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "Adam"])
def test_what_a_step_subtracted_stands_in_the_diff(solver_file, kind):
    solver = caffe.get_solver(solver_file(type=f'"{kind}"', momentum=0.9, base_lr=0.01))
    solver.step(2)
    before = solver.net.params["ip"][0].data.copy()
    solver.step(1)
    blob = solver.net.params["ip"][0]
    np.testing.assert_allclose(blob.data, before - blob.diff, rtol=1e-6)


def test_a_diff_of_the_users_own_is_applied_and_counts_as_an_iteration(solver_file):
    solver = caffe.get_solver(solver_file(base_lr=0.01))
    solver.net.params["ip"][0].diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(solver.net.params["ip"][0].data, -0.01)
    assert solver.iter == 1


def test_test_nets_use_the_train_nets_weights_from_their_first_test_on(solver_file):
    solver = caffe.get_solver(solver_file(test_iter=1, test_interval=2, test_initialization="false"))
    (test_net,) = solver.test_nets
    assert solver.test_nets[0] is test_net
    test_net.params["ip"][0].data[...] = 9  # its own until then, say for an average
    solver.step(1)
    assert (test_net.params["ip"][0].data == 9).all() and (solver.net.params["ip"][0].data != 9).all()
    solver.step(2)
    np.testing.assert_array_equal(test_net.params["ip"][0].data, solver.net.params["ip"][0].data)
    loss = test_net.forward()["loss"].copy()
    solver.net.params["ip"][0].data[...] = 5
    assert test_net.forward()["loss"] != loss


def test_another_net_can_share_a_solvers_weights(solver_file):
    solver = caffe.get_solver(solver_file())
    net = caffe.Net("net.prototxt", caffe.TEST)
    solver.share_weights(net)
    solver.step(1)
    np.testing.assert_array_equal(net.params["ip"][0].data, solver.net.params["ip"][0].data)


def test_callbacks_are_called_around_the_gradients_of_each_iteration(solver_file):
    solver, seen = caffe.get_solver(solver_file(iter_size=2)), []

    def diff():
        return float(np.abs(solver.net.params["ip"][0].diff).sum())

    solver.add_callback(
        lambda: seen.append(("start", solver.iter)), lambda: seen.append(("ready", diff() > 0))
    )
    solver.step(2)
    assert seen == [("start", 0), ("ready", True), ("start", 1), ("ready", True)]


def test_param_is_the_message_and_the_next_step_heeds_it(solver_file):
    solver = caffe.get_solver(solver_file())
    assert (solver.param.max_iter, solver.param.display) == (4, 0)
    solver.param.base_lr = 0.0
    before = solver.net.params["ip"][0].data.copy()
    solver.step(1)
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, before)


def test_a_snapshot_restores_to_the_same_track(solver_file):
    solver = caffe.get_solver(solver_file(momentum=0.9, snapshot_prefix='"snap"', base_lr=0.1))
    solver.step(2)
    solver.snapshot()
    solver.solve()
    other = caffe.get_solver("solver.prototxt")
    other.solve("snap_iter_2.solverstate")
    assert other.iter == solver.iter == 4
    np.testing.assert_array_equal(other.net.params["ip"][0].data, solver.net.params["ip"][0].data)


def test_nets_outlive_their_solver(solver_file):
    solver = caffe.get_solver(solver_file())
    net = solver.net
    del solver
    assert net.forward()["loss"] == 2


def test_set_random_seed_decides_what_an_unseeded_solver_draws(solver_file, tmp_path):
    text = NET.replace("num_output: 1", 'num_output: 1 weight_filler { type: "xavier" }')
    solver_file()
    (tmp_path / "net.prototxt").write_text(text)
    drawn = []
    for _ in range(2):
        caffe.set_random_seed(3)
        drawn.append(caffe.get_solver("solver.prototxt").net.params["ip"][0].data.copy())
    np.testing.assert_array_equal(*drawn)


def test_a_solver_logs_caffes_lines_unless_it_is_told_not_to(solver_file, monkeypatch, capsys):
    monkeypatch.delenv("GLOG_minloglevel")
    caffe.get_solver(solver_file(display=1)).step(1)
    assert "Iteration 0, lr = 0.5" in capsys.readouterr().err
    caffe.set_logging_disabled(True)
    try:
        caffe.get_solver("solver.prototxt").step(1)
    finally:
        caffe.set_logging_disabled(False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("copies", [False, True])
def test_a_script_learns_what_crnn_train_does(logged, monkeypatch, copies):
    """On a real LMDB with crops and mirrors, to the bit."""
    monkeypatch.setattr(Mirror, "always_copies", copies)
    path = logged(test_iter=2, test_interval=2, weight_decay=0.01, snapshot_after_train="false")
    reference = Solver(path)
    reference.solve()
    solver = caffe.get_solver(path)
    for _ in range(4):
        solver.step(1)
        solver.net.params  # noqa: B018 (a script looks on)
    for param in reference.net.params:
        mine = solver.net.params[param.layer][param.index].data
        assert torch.equal(torch.from_numpy(mine), param.parameter.detach()), param.layer


@pytest.mark.parametrize("kind", ["sequential", "cycle"])
def test_windows_learn_what_crnn_train_does(solver_file, tmp_path, kind):
    path = solver_file(window_update=f'"{kind}"', random_seed=1, base_lr=0.05, momentum=0.9)
    (tmp_path / "net.prototxt").write_text("""
layer { name: "data" type: "DummyData" top: "x" top: "y" dummy_data_param {
  shape { dim: 2 dim: 3 dim: 3 dim: 3 } shape { dim: 2 }
  data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "rnn" type: "SpatialRNN" bottom: "x" top: "rnn" spatial_rnn_param { num_output: 4
  weight_filler { type: "gaussian" std: 0.3 } recurrent_filler { type: "identity" value: 0.5 } } }
layer { name: "fc" type: "InnerProduct" bottom: "rnn" top: "fc" inner_product_param { num_output: 2
  weight_filler { type: "gaussian" std: 0.3 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "y" top: "loss" }
""")
    reference = Solver(path)
    reference.solve()
    solver = caffe.get_solver(path)
    solver.solve()
    for param in reference.net.params:
        mine = solver.net.params[param.layer][param.index].data
        np.testing.assert_array_equal(mine, param.parameter.detach().numpy(), param.layer)


def test_what_several_gpus_would_need_is_refused_in_a_sentence():
    assert not caffe.has_nccl()
    assert (caffe.solver_count(), caffe.solver_rank()) == (1, 0)
    with pytest.raises(ValueError, match="trains with 1 solver, got 2"):
        caffe.set_solver_count(2)
    with pytest.raises(ValueError, match="has_nccl"):
        caffe.NCCL(None, "uid")
