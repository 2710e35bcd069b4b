"""A tiny experiment from its file to its report; stopped, killed, shared and changed in between."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.experiments.evaluate import Evaluation
from crnn.experiments.jobs import jobs_of
from crnn.experiments.manifest import database as summed_up
from crnn.experiments.manifest import record
from crnn.experiments.run import locked
from crnn.proto import pb
from crnn.tools import experiment as tool
from crnn.tools import train
from tests.experiments.tiny import COMMAND, EXPERIMENT, SOLVER, blobs, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every test works in a run of its own there."""
    folder = tmp_path_factory.mktemp("tiny")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """The experiment run in one go."""
    done = subprocess.run(
        [*COMMAND, "--out", "whole", "--parallel", "2"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_net_and_seed_is_trained_tested_and_reported(folder, whole):
    for net in ("right", "up"):
        for seed in (1, 2):
            assert (folder / "whole" / net / f"seed_{seed}" / f"{net}_iter_40.caffemodel").exists()
    report = (folder / "whole" / "report.md").read_text()
    assert report in whole
    assert "4 of 4 trainings and tests are done." in report
    assert "Nobody 2015" in report and "40.50" in report
    assert "<svg" in (folder / "whole" / "report.html").read_text()


def test_a_job_holds_the_texts_that_made_it(folder, whole):
    job = folder / "whole" / "up" / "seed_2"
    assert 'direction: "up"' in (job / "train_val.prototxt").read_text()
    assert "random_seed: 2" in (job / "solver.prototxt").read_text()
    manifest = json.loads((job / "manifest.json").read_text())
    assert manifest["data"]["train_lmdb"]["records"] == 12
    assert "torch" in manifest["runs"][0]["versions"]


def test_finished_jobs_keep_their_last_snapshot_alone(folder, whole):
    states = [path.name for path in (folder / "whole" / "up" / "seed_1").glob("*.solverstate")]
    assert states == ["up_iter_40.solverstate"]


def test_what_is_done_is_not_done_again(inside, whole, capsys, monkeypatch):
    monkeypatch.setattr("crnn.experiments.run.Process", None)  # no command can start
    assert tool.main(["run", "experiment.prototxt", "--out", "whole"]) == 0
    assert "4 of 4" in capsys.readouterr().out


def test_out_may_be_spelled_otherwise_copied_or_moved(inside, whole, capsys, monkeypatch):
    monkeypatch.setattr("crnn.experiments.run.Process", None)  # no command can start
    shutil.copytree("whole", "copied")
    for out in (str(Path("whole").absolute()), "./whole", "copied"):
        assert tool.main(["report", "experiment.prototxt", "--out", out]) == 0
        assert "4 of 4" in capsys.readouterr().out
    assert tool.main(["run", "experiment.prototxt", "--out", "copied"]) == 0
    assert "it is now" not in capsys.readouterr().out
    (job,) = jobs_of(tool.find("experiment.prototxt"), Path("copied"), [1], ["up"])
    assert job.place() is None  # what follows a job that is not finished
    solver = (job.folder / "solver.prototxt").read_text()
    assert 'snapshot_prefix: "copied/up/seed_1/up"' in solver and "whole" not in solver


def begun(*words: str) -> subprocess.Popen:
    """A run whose first job has started."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "starts" in process.stdout.readline()
    return process


def finish(out: str) -> list[np.ndarray]:
    assert tool.main(["run", "experiment.prototxt", "--out", out, "--seeds", "1", "--nets", "up"]) == 0
    return blobs(f"{out}/up/seed_1/up_iter_40.caffemodel")


def test_a_training_that_lost_its_last_iterations_goes_on_exactly(inside, whole, capsys):
    (job,) = jobs_of(tool.find("experiment.prototxt"), Path("resumed"), [1], ["up"])
    job.place()
    solver = job.folder / "solver.prototxt"
    text = solver.read_text()
    solver.write_text(text.replace("max_iter: 40", "max_iter: 20"))
    train.main(["--solver", str(solver)])
    solver.write_text(text)
    for got, want in zip(finish("resumed"), blobs("whole/up/seed_1/up_iter_40.caffemodel"), strict=True):
        np.testing.assert_array_equal(got, want)
    assert "--snapshot resumed/up/seed_1/up_iter_20.solverstate" in (job.folder / "log.txt").read_text()


def test_ctrl_c_stops_with_a_snapshot_and_the_same_command_goes_on(inside, whole):
    process = begun("--out", "stopped", "--seeds", "1", "--nets", "up")
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "goes on from here" in out
    for got, want in zip(finish("stopped"), blobs("whole/up/seed_1/up_iter_40.caffemodel"), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_job_of_another_process_is_left_to_it(inside, whole, capsys):
    (job,) = jobs_of(tool.find("experiment.prototxt"), Path("shared"), [1], ["up"])
    job.folder.parent.mkdir(parents=True)
    lock = locked(job.folder.parent / "seed_1.lock")
    assert tool.main(["run", "experiment.prototxt", "--out", "shared", "--seeds", "1", "--nets", "up"]) == 0
    os.close(lock)
    assert "up, seed 1: another process is at it" in capsys.readouterr().out
    assert not job.folder.exists()


def test_a_killed_runs_training_keeps_its_job(inside, whole):
    process = begun("--out", "killed", "--seeds", "1", "--nets", "up")
    process.kill()
    process.communicate()
    with open("killed/up/seed_1.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the training that goes on alone is over
    for got, want in zip(finish("killed"), blobs("whole/up/seed_1/up_iter_40.caffemodel"), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_failed_job_is_told_with_its_last_words(inside, capsys):
    text = EXPERIMENT.replace('baseline: "right"', 'solver_param { lr_policy: "none" }')
    Path("fails.prototxt").write_text(text)
    assert tool.main(["run", "fails.prototxt", "--out", "bad", "--seeds", "1", "--nets", "up"]) == 1
    said = capsys.readouterr().err
    assert re.search(r"up, seed 1 failed: .*status 1: crnn train: .*unknown lr_policy 'none'", said)


def test_changed_texts_train_anew_and_keep_what_was_there(inside, whole, capsys):
    finish("changed")
    Path("other.prototxt").write_text(
        EXPERIMENT.replace("views: 1  m", "solver_param { max_iter: 10 } views: 1 m")
    )
    words = ["run", "other.prototxt", "--out", "changed", "--seeds", "1", "--nets", "up"]
    assert tool.main(words) == 0
    said = capsys.readouterr().out
    assert "it is now changed/up/seed_1.1" in said and "up, seed 1: starts" in said
    assert Path("changed/up/seed_1.1/up_iter_40.caffemodel").exists()
    assert Path("changed/up/seed_1/up_iter_10.caffemodel").exists()


def test_changed_data_are_refused(inside, whole):
    (job,) = jobs_of(tool.find("experiment.prototxt"), Path("whole"), [1], ["up"])
    manifest = json.loads((job.folder / "manifest.json").read_text())
    with pytest.raises(ValueError, match="was begun with other data: move it away"):
        record(job.folder, {"data": {"train_lmdb": {"records": 13}}}, {})
    assert json.loads((job.folder / "manifest.json").read_text()) == manifest


def test_a_net_is_not_trained_on_other_data_than_those_that_are_done(inside, whole, capsys):
    shutil.copytree("whole", "grown")
    shutil.rmtree("grown/up/seed_2")
    shutil.move("train_lmdb", "before_lmdb")
    try:
        with LmdbWriter("train_lmdb") as database:
            database.put(b"00000000_r", encode(np.zeros((1, 8, 8), np.uint8), 0))
        summed_up.cache_clear()
        assert tool.main(["run", "experiment.prototxt", "--out", "grown"]) == 1
    finally:
        shutil.rmtree("train_lmdb")
        shutil.move("before_lmdb", "train_lmdb")
        summed_up.cache_clear()
    said = capsys.readouterr().err
    assert "up, seed 2 failed: up, seed 2 and right, seed 1 are made with different train_lmdb" in said
    assert not Path("grown/up/seed_2/log.txt").exists()  # no training was begun
    assert tool.main(["run", "experiment.prototxt", "--out", "grown"]) == 0


def test_nets_may_start_from_weights_be_tested_alone_or_feed_an_svm(inside, whole):
    pytest.importorskip("sklearn", reason="runs where scikit-learn is installed (pip install crnn[svm])")
    before = 'net: "net.prototxt" weights: "whole/right/seed_{seed}/right_iter_40.caffemodel"'
    head = EXPERIMENT[: EXPERIMENT.index("net {")].replace('baseline: "right"', "")
    Path("tuned.prototxt").write_text(
        f"""{head}
        net {{ name: "before" {before} only_test: true }}
        net {{ name: "svm" {before} svm {{ blob: "rnn" c: [0.01, 0.1] folds: 2 }} }}
        net {{ name: "tuned" {before} solver_param {{ max_iter: 10 }}
          layer {{ name: "rnn" param {{ lr_mult: 0 }} param {{ lr_mult: 0 }} param {{ lr_mult: 0 }} }} }}"""
    )
    assert tool.main(["run", "tuned.prototxt", "--out", "tuned", "--seeds", "2"]) == 0
    old, new = (Evaluation.load(f"{path}/seed_2/views_1.npz") for path in ("whole/right", "tuned/before"))
    np.testing.assert_array_equal(old.probabilities, new.probabilities)
    assert Evaluation.load("tuned/svm/seed_2/views_1.npz").classes == 3
    first = blobs("whole/right/seed_2/right_iter_40.caffemodel")
    tuned = blobs("tuned/tuned/seed_2/tuned_iter_10.caffemodel")
    for i, (a, b) in enumerate(zip(first, tuned, strict=True)):
        assert np.array_equal(a, b) == (i < 3)  # the RNN layer's blobs stayed, fc's moved
    manifest = json.loads(Path("tuned/tuned/seed_2/manifest.json").read_text())
    assert list(manifest["weights"]) == ["whole/right/seed_2/right_iter_40.caffemodel"]


def test_an_untrained_net_with_other_weights_is_tested_anew(inside, whole):
    def run(seed: int) -> list[str]:
        start = f'weights: "whole/right/seed_{seed}/right_iter_40.caffemodel" only_test: true'
        text = EXPERIMENT.replace('"right" net: "net.prototxt"', f'"right" net: "net.prototxt" {start}')
        Path("tested.prototxt").write_text(text)
        assert tool.main(["run", "tested.prototxt", "--out", "tested", "--nets", "right"]) == 0
        return Evaluation.load("tested/right/seed_1/views_1.npz").probabilities

    first, second = run(1), run(2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(run(2), second)
    assert Path("tested/right/seed_1.1/views_1.npz").exists()
    assert not Path("tested/right/seed_1.2").exists()


def test_ten_views_alone_are_reported(inside, capsys):
    Path("views.prototxt").write_text(EXPERIMENT.replace("views: 1", "views: 10"))
    words = ["run", "views.prototxt", "--out", "views", "--seeds", "1,1", "--nets", "up"]
    assert tool.main(words) == 0
    assert "10 views" in Path("views/report.md").read_text()
    assert "another process" not in capsys.readouterr().out


def test_a_measure_that_does_not_fit_ends_no_other_job(inside, capsys):
    Path("top5.prototxt").write_text(EXPERIMENT.replace("top1_error", "top5_error"))
    words = ["run", "top5.prototxt", "--out", "top5", "--seeds", "1"]
    with pytest.raises(ValueError, match="top-5 of 3 classes"):
        tool.main(words)  # in the report
    assert capsys.readouterr().out.count("done, but top-5 of 3 classes") == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "a,b"], "--out a,b: a folder of jobs cannot have ',' in its path"),
        (["--out", 'a"b'], "cannot have '\"' in its path"),
        (["--devices", "0"], "--devices 0: .*leave --devices out"),
    ],
)
def test_flags_that_cannot_be(inside, words, says):
    if words[0] == "--devices" and torch.cuda.is_available():
        pytest.skip("runs where there is no GPU")
    with pytest.raises(ValueError, match=says):
        tool.main(["run", "experiment.prototxt", *words])


def test_seeds_that_are_no_numbers(inside, capsys):
    with pytest.raises(SystemExit):
        tool.main(["run", "experiment.prototxt", "--seeds", "x"])
    assert "wanted whole numbers as 1,2, got 'x'" in capsys.readouterr().err


def test_a_training_ends_with_the_file_that_is_read_after_it(inside):
    """Whatever the solver says of its snapshots."""
    Path("hdf5.prototxt").write_text(SOLVER + "snapshot_format: HDF5 snapshot_after_train: false")
    Path("hdf5_experiment.prototxt").write_text(EXPERIMENT.replace("solver.prototxt", "hdf5.prototxt"))
    (job,) = jobs_of(tool.find("hdf5_experiment.prototxt"), Path("hdf5"), [1], ["up"])
    assert job.solver().snapshot_format == pb.SolverParameter.BINARYPROTO
    assert job.solver().snapshot_after_train
