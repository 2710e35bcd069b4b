"""Several processes train one net: real ones, which gloo connects."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.proto import pb
from crnn.proto.blobs import to_array
from crnn.solver.events import Scored
from crnn.solver.log import with_loss
from crnn.solver.ranks import loaders
from crnn.solver.solver import Solver
from crnn.testing import ROOT
from tests.solver import sequence, together

SCRIPT = together.__file__
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="needs a torch built with torch.distributed"
)


def start(*words) -> list[subprocess.Popen]:
    """Two processes started by hand, as a cluster's scheduler does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={**ENVIRONMENT, **place, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]


def run(*words) -> str:
    """What rank 0 of two says, once both have ended well."""
    processes = start(*words)
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said[0]


def blobs_of(path):
    """Weights and history of a snapshot, a flat array each."""
    net = pb.NetParameter.FromString(Path(f"{path}.caffemodel").read_bytes())
    state = pb.SolverState.FromString(Path(f"{path}.solverstate").read_bytes())
    blobs = [blob for layer in net.layer for blob in layer.blobs] + list(state.history)
    return [to_array(blob).ravel() for blob in blobs]


def scores_in(log: str) -> list[str]:
    return re.findall(r"Test net output #\d: (.*)", log)


def test_two_with_a_batch_are_one_with_twice_the_batch(logged):
    """Crops, mirrors, several passes, clipping, decay, three test batches for two; and resumed to the bit."""
    fields = {
        "base_lr": 1e-3, "iter_size": 2, "weight_decay": 0.01, "clip_gradients": 20, "max_iter": 6,
        "snapshot": 3, "test_iter": 3, "test_interval": 2,
    }  # fmt: skip
    log = run("-m", "crnn", "train", "-solver", logged(**fields))
    assert "2 processes, 8 images a batch (4 each)" in log
    two = blobs_of("out/run_iter_6")

    net = Path("logged_net.prototxt").read_text()
    Path("logged_net.prototxt").write_text(net.replace("batch_size: 4", "batch_size: 8", 1))  # of TRAIN
    scored = []
    one = Solver(logged("one.prototxt", **{**fields, "snapshot_prefix": '"one/run"'}), [scored.append])
    one.solve()
    for ours, theirs in zip(two, blobs_of("one/run_iter_6"), strict=True):
        assert np.linalg.norm(ours - theirs) <= 1e-6 * np.linalg.norm(theirs)
    first = next(event for event in scored if isinstance(event, Scored)).outputs
    assert scores_in(log)[:2] == [with_loss(output) for output in first]
    again = json.loads(Path("out/run_iter_6.resume.json").read_text())
    assert again["data"] == json.loads(Path("one/run_iter_6.resume.json").read_text())["data"]

    Path("logged_net.prototxt").write_text(net)
    resumed = run(
        "-m", "crnn", "train", "-solver", "solver.prototxt", "-snapshot", "out/run_iter_3.solverstate"
    )
    for ours, theirs in zip(two, blobs_of("out/run_iter_6"), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert scores_in(resumed) == scores_in(log)[-len(scores_in(resumed)) :] != []


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_ones_carried_state_is_resumed(logged, precision):
    fields = {**sequence.written(), "snapshot": 3, "max_iter": 6, "precision": f'"{precision}"'}
    run("-m", "crnn", "train", "-solver", logged(**fields))
    unbroken, resume = blobs_of("out/run_iter_6"), json.loads(Path("out/run_iter_3.resume.json").read_text())
    assert resume["states"] != resume["states_of_other_ranks"][0]
    Path("out/run_iter_6.caffemodel").unlink()
    run("-m", "crnn", "train", "-solver", "solver.prototxt", "-snapshot", "out/run_iter_3.solverstate")
    for ours, theirs in zip(unbroken, blobs_of("out/run_iter_6"), strict=True):
        assert ours.tobytes() == theirs.tobytes()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    run(SCRIPT, str(folder))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_weights_stay_equal_and_each_drops_its_own(shown):
    first, second = shown
    assert first["weights"] == second["weights"]
    assert first["dropped"] != second["dropped"]


def test_a_blob_that_no_loss_reaches_has_no_gradient(shown):
    assert all(rank["unreached"] for rank in shown)


def test_running_sums_are_each_ones_own_until_a_test_takes_those_of_rank_0(shown):
    first, second = shown
    assert first["own_sums"] != second["own_sums"]
    assert first["sums_after_a_test"] == second["sums_after_a_test"] == first["own_sums"]


def test_synced_statistics_are_those_of_one_batch(shown):
    one = together.solver(sync=False)
    one.step(1, together.batch())
    for rank in shown:
        for ours, theirs in zip(rank["synced_sums"], together.sums(one), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(rank["synced_weights"], one.net.layer("fc").blobs[0].tolist(), rtol=2e-6)


def test_fewer_batches_than_processes(shown):
    assert len(shown[0]["scored"][0]) == 4 * 2 + 1 and shown[1]["scored"] == [[]]


def test_a_request_to_one_is_a_request_to_all_and_a_stop_wins(shown):
    assert [rank["stopped_at"] for rank in shown] == [1, 1]


def test_a_value_that_is_not_finite_in_one_stops_all(shown):
    assert all(rank["not_finite"].startswith("the loss is nan at iteration 0") for rank in shown)


def test_windows_are_for_one_process(shown):
    assert all(
        rank["windows"] == 'window_update: "sequential" trains in one process; there are 2' for rank in shown
    )


@pytest.fixture
def endless(logged):
    """A training of two that goes on until something ends it; gives the launcher, once it trains."""
    solver = logged(max_iter=1_000_000, display=1, snapshot=10)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*torchrun, "-m", "crnn", "train", "-solver", solver],
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "Iteration 12, lr" in line:
            break
    yield process
    process.kill()
    process.stderr.close()


def workers(process) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def test_one_that_dies_ends_all_within_a_minute_and_says_so(endless):
    pids = workers(endless)
    os.kill(pids[-1], signal.SIGKILL)
    started = time.monotonic()
    said = endless.stderr.read()
    assert endless.wait(timeout=60) != 0 and time.monotonic() - started < 60
    assert "Signal 9 (SIGKILL)" in said  # torchrun names the first that failed
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert Path("out/run_iter_10.solverstate").exists()


def test_without_torchrun_the_others_end_with_a_sentence(logged):
    first, second = start("-m", "crnn", "train", "-solver", logged(max_iter=1_000_000, display=1))
    for line in first.stderr:
        if "Iteration 12, lr" in line:
            break
    second.kill()
    said = first.communicate(timeout=60)[1]
    second.communicate()
    assert first.returncode == 1 and "Traceback" not in said
    assert "another process ended or is out of reach: its own message says why" in said


def test_stopped_they_leave_one_snapshot_to_resume_from(endless):
    pids = workers(endless)
    endless.send_signal(signal.SIGTERM)
    said = endless.stderr.read()
    endless.wait(timeout=60)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    written = re.findall(r"Snapshotting to binary proto file (\S+)_iter_(\d+)", said)
    assert len(written) >= 1 and "Optimization stopped early." in said
    last = Path(f"out/run_iter_{written[-1][1]}.solverstate")
    solver = Solver("solver.prototxt")
    solver.restore(last)
    assert loaders(solver.net)[0].position == solver.iter * 8
