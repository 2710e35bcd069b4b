"""`crnn train` as a user runs it: a process of its own, real files, exit codes and messages."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from crnn.__main__ import main
from crnn.proto import pb
from crnn.testing import ROOT
from crnn.tools import train

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def command(*words):
    return [sys.executable, "-m", "crnn", *words]


def crnn(*words):
    return subprocess.run(command(*words), env=ENVIRONMENT, capture_output=True, text=True, timeout=120)


def state_of(path):
    return pb.SolverState.FromString(Path(path).read_bytes())


def test_train_and_resume(logged):
    solver = logged(max_iter=6, snapshot=3, test_iter=1, test_interval=3, display=2)
    done = crnn("train", "-solver", solver)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Optimization Done.") == 2
    assert (
        "Use CPU." in done.stderr
        and "Snapshotting to binary proto file out/run_iter_6.caffemodel" in done.stderr
    )
    model, state = (Path(f"out/run_iter_6.{kind}").read_bytes() for kind in ("caffemodel", "solverstate"))
    again = crnn("train", "--solver", solver, "--snapshot=out/run_iter_3.solverstate")
    assert again.returncode == 0, again.stderr
    assert "Resuming from out/run_iter_3.solverstate" in again.stderr
    assert Path("out/run_iter_6.caffemodel").read_bytes() == model
    assert Path("out/run_iter_6.solverstate").read_bytes() == state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_half_way_leaves_a_snapshot_to_resume_from(logged, number):
    solver = logged(max_iter=1_000_000, display=1)
    process = subprocess.Popen(
        command("train", "-solver", solver), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "Iteration 5, lr" in line:
            process.send_signal(number)
            break
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "Optimization stopped early." in rest
    (state,) = Path("out").glob("*.solverstate")
    stopped_at = state_of(state).iter
    assert stopped_at >= 6
    done = crnn("train", "-solver", logged(max_iter=stopped_at + 2), "-snapshot", str(state))
    assert done.returncode == 0, done.stderr
    assert state_of(f"out/run_iter_{stopped_at + 2}.solverstate").iter == stopped_at + 2


def test_a_terminal_that_goes_away_takes_no_training_along(logged):
    """As a dropped ssh does: what the terminal was to show is lost, nothing else."""
    ours, theirs = os.openpty()
    run = subprocess.Popen(
        command("train", "-solver", logged(max_iter=8)), env=ENVIRONMENT, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.read(ours, 1)  # it has begun to speak
    os.close(ours)
    assert run.wait(timeout=120) == 0
    assert state_of("out/run_iter_8.solverstate").iter == 8


@pytest.mark.parametrize("ending", ["2>&-", "2>/dev/full", "2>&1 | true"])
def test_a_log_that_cannot_be_written_takes_no_training_along(logged, ending):
    words = " ".join(command("train", "-solver", logged(max_iter=2)))
    subprocess.run(["bash", "-c", f"{words} {ending}"], env=ENVIRONMENT, timeout=120)
    assert state_of("out/run_iter_2.solverstate").iter == 2


def test_killed_without_warning_leaves_the_last_snapshot_whole(logged):
    solver = logged(max_iter=1_000_000, display=1, snapshot=1)
    process = subprocess.Popen(
        command("train", "-solver", solver), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if "Iteration 7, lr" in line:
            process.kill()
            break
    process.communicate(timeout=60)
    newest = max(state_of(path).iter for path in Path("out").glob("*.solverstate"))
    assert newest >= 7
    done = crnn("train", "-solver", logged(max_iter=newest + 1, display=1), "-snapshot", "latest")
    assert done.returncode == 0 and f"Iteration {newest}, lr" in done.stderr, done.stderr
    assert f"Iteration {newest - 1}, lr" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_snapshot_on_demand(logged, number):
    solver = logged(max_iter=1_000_000, display=1)
    process = subprocess.Popen(
        command("train", "-solver", solver), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    seen = ""
    for line in process.stderr:
        seen += line
        if "Iteration 5, lr" in line:
            process.send_signal(number)
        if "Snapshotting solver state" in seen and "loss" in line:
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=60)
    assert len(list(Path("out").glob("*.solverstate"))) == 2


def test_fine_tuning_prints_what_was_copied(logged):
    assert crnn("train", "-solver", logged(max_iter=1)).returncode == 0
    net = Path("logged_net.prototxt")
    net.write_text(net.read_text().replace('name: "fc"', 'name: "fc_new"'))
    done = crnn("train", "-solver", logged(max_iter=1), "-weights", "out/run_iter_1.caffemodel")
    assert done.returncode == 0, done.stderr
    assert re.search(r"copied +1 +conv1\n", done.stderr)
    assert re.search(r"filled +1 +fc_new\n", done.stderr)
    assert re.search(r"ignored +1 +fc\n", done.stderr)


@pytest.mark.parametrize(
    "words, message",
    [
        (["-solver", "nowhere.prototxt"], "nowhere.prototxt"),
        (["-solver", "SOLVER", "-snapshot", "nowhere.solverstate"], "nowhere.solverstate"),
        (["-solver", "SOLVER", "-weights", "nowhere.caffemodel"], "nowhere.caffemodel"),
        (["-solver", "SOLVER", "-snapshot", "w.caffemodel"], "w.caffemodel holds weights only"),
        (["-solver", "POLICY"], "unknown lr_policy 'fix'"),
        (["-solver", "TYPE"], "unknown solver type 'Sgd'; did you mean 'SGD'"),
        (["-solver", "PLACE"], "cannot write snapshots to 'mean.binaryproto/x'"),
        (["-solver", "BLOWN"], "at iteration"),
        (["-solver", "SOLVER", "-snapshot", ""], "--snapshot is empty: give a file"),
        (["-solver", ""], "--solver is empty: give a file"),
        (["-solver", "SOLVER", "-weights", ","], "--weights is empty"),
        (["-solver", "NAN"], "base_lr must be finite, got nan"),
        (["-solver", "ADAM"], "Adam needs 0 <= momentum < 1, got 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_is_one_sentence_and_exit_code_1(logged, words, message, capsys):
    made = {
        "SOLVER": {},
        "POLICY": {"lr_policy": '"fix"'},
        "TYPE": {"type": '"Sgd"'},
        "PLACE": {"snapshot_prefix": '"mean.binaryproto/x"'},
        "BLOWN": {"base_lr": 1e30},
        "NAN": {"base_lr": "nan"},
        "ADAM": {"type": '"Adam"', "momentum": 1},
    }
    words = [logged(**made[word]) if word in made else word for word in words]
    assert main(["train", *words]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("crnn train: ") and message in last


def test_a_mistake_of_a_real_process(logged):
    failed = crnn("train", "-solver", "nowhere.prototxt")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr and len(failed.stderr.splitlines()) == 1


def test_snapshot_and_weights_exclude_each_other(logged, capsys):
    with pytest.raises(SystemExit):
        train.main(["-solver", logged(), "-snapshot", "a", "-weights", "b"])
    assert "not allowed with" in capsys.readouterr().err


def test_flags_go_into_the_solver():
    param = pb.SolverParameter(weights=["old"])
    arguments = train.parser().parse_args(
        ["--solver=s", "--level=2", "--stage=a,b", "--weights=x.caffemodel,y.caffemodel"]
    )
    train.amend(param, arguments)
    assert (param.train_state.level, list(param.train_state.stage)) == (2, ["a", "b"])
    assert list(param.weights) == ["x.caffemodel", "y.caffemodel"]


def test_a_resumed_run_forgets_the_solvers_weights():
    param = pb.SolverParameter(weights=["old"])
    train.amend(param, train.parser().parse_args(["--solver=s", "--snapshot=a.solverstate"]))
    assert not param.weights


def test_the_solvers_weights_stay_where_there_is_no_latest_snapshot(tmp_path):
    arguments = train.parser().parse_args(["--solver=s", "--snapshot=latest"])
    param = pb.SolverParameter(weights=["old"], snapshot_prefix=str(tmp_path / "a"))
    train.amend(param, arguments)
    assert param.weights
    (tmp_path / "a_iter_3.solverstate").touch()
    train.amend(param, arguments)
    assert not param.weights


@pytest.mark.parametrize(
    "fields, flag, wanted",
    [
        ({}, None, ["cpu"]),
        ({"solver_mode": 0}, None, ["cpu"]),
        ({"solver_mode": 1, "device_id": 3}, None, ["cuda:3"]),
        ({"solver_mode": 1}, "2", ["cuda:2"]),
        ({"solver_mode": 0}, "1", ["cuda:1"]),
        ({}, "3,1", ["cuda:3", "cuda:1"]),
        ({}, "all", ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
    ],
)
def test_only_a_stated_solver_mode_asks_for_the_gpu(monkeypatch, fields, flag, wanted):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    devices = train.devices_of(pb.SolverParameter(**fields), flag)
    assert devices == [torch.device(name) for name in wanted]


def test_several_gpus_become_a_process_each(monkeypatch, logged):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    started = []

    def execv(path, words):
        started.extend(words)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", execv)
    words = ["-solver", logged(), "-gpu", "3,1"]
    with pytest.raises(SystemExit):
        train.main(words)
    assert started[1:3] == ["-m", "torch.distributed.run"] and started[-8:] == [
        "2",
        "-m",
        "crnn",
        "train",
        *words,
    ]


def test_a_process_takes_the_gpu_of_its_place(monkeypatch):
    devices = [torch.device("cuda", 3), torch.device("cuda", 1)]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert train.own_device(devices) == torch.device("cuda:1")
    assert train.own_device([torch.device("cpu")]) == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match=r"process 2 of this machine has no GPU left of 2: .* give -gpu all"):
        train.own_device(devices)


@pytest.mark.parametrize(
    "flag, message",
    [
        ([], "solver_mode: GPU with device_id: 0: torch finds no CUDA device here; write solver_mode: CPU"),
        (["-gpu", "1"], "-gpu 1: torch finds no CUDA device here; leave -gpu out"),
    ],
)
def test_a_gpu_that_is_not_there_names_what_asked_for_it(monkeypatch, capsys, logged, flag, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["train", "-solver", logged(solver_mode="GPU"), *flag]) == 1
    assert message in capsys.readouterr().err


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit, match="0"):
        train.main(["--help"])
    assert "crnn train -solver solver.prototxt" in capsys.readouterr().out
