"""What a dry run finds missing, and what it reckons."""

import pytest
import torch

from crnn.experiments import checks
from crnn.experiments.jobs import jobs_of
from crnn.experiments.spec import Experiment
from crnn.tools import experiment as tool

NET = """
layer { name: "data" type: "Data" top: "data" top: "label"
  transform_param { crop_size: 6 mean_file: "mean.binaryproto" }
  data_param { source: "db" batch_size: 4 backend: LMDB } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = 'base_lr: 0.1 lr_policy: "fixed" momentum: 0.9 max_iter: 1000 snapshot: 100\n'
EXPERIMENT = """title: "T"  solver: "solver.prototxt"  seed: [1, 2]  views: 1  measure: "top1_error"
data { command: "data convert mit67 {data} there" makes: "db" makes: "mean.binaryproto" gigabytes: %s
  record { dim: 3 dim: 8 dim: 8 } }
net { name: "a" net: "net.prototxt" weights: "w.caffemodel" }
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text(SOLVER)

    def make(gigabytes: float = 0.001) -> Experiment:
        (tmp_path / "e.prototxt").write_text(EXPERIMENT % gigabytes)
        return Experiment(tmp_path / "e.prototxt", "e.prototxt")

    return make


def test_downloads_weights_and_files_that_are_not_there(experiment, tmp_path):
    e = experiment()
    jobs = jobs_of(e, tmp_path / "out")
    assert checks.missing(e, jobs, None) == [
        "db is not there: give --data DIR, the folder of the downloads that "
        "`crnn data convert mit67 --help` lists",
        "w.caffemodel, the weights that nets start from, is not there",
    ]
    assert checks.missing(e, jobs, tmp_path / "no")[0] == f"--data {tmp_path}/no is no folder"
    (tmp_path / "w.caffemodel").touch()
    assert checks.missing(e, jobs, tmp_path) == []


def test_a_file_that_no_command_makes(experiment, tmp_path):
    text = EXPERIMENT.replace(' makes: "mean.binaryproto"', "") % 1
    (tmp_path / "e.prototxt").write_text(text)
    e = Experiment(tmp_path / "e.prototxt", "e.prototxt")
    said = checks.missing(e, jobs_of(e, tmp_path / "out"), tmp_path)
    assert said[0] == "mean.binaryproto, which nets read, is not there, and no command of e.prototxt makes it"


def test_nets_by_which_data_are_made(experiment, tmp_path, monkeypatch):
    """Those of the experiment's own folder are found from elsewhere; weights may be made by a command."""
    experiment()
    monkeypatch.chdir("/")
    for weights, says in (("made.pth", []), ("x.pth", ["x.pth, by which f is made, is not there"])):
        made = f"""data {{ command: "data backbone a b" makes: "made.pth" }}
            data {{ command: "extract_features {weights} {{here}}/net.prototxt fc f all" makes: "f" }}\n"""
        (tmp_path / "e.prototxt").write_text(made + EXPERIMENT % 1)
        e = Experiment(tmp_path / "e.prototxt", "e.prototxt")
        assert checks.missing(e, [], tmp_path) == says


def test_memory_and_disk_are_those_of_the_blobs(experiment, tmp_path):
    (job, _) = jobs_of(experiment(), tmp_path / "out")
    cost = checks.cost(job, torch.device("cpu"), timed=False)
    weights, blobs = 3 * 6 * 6 * 5 + 5, 4 * 3 * 6 * 6 + 4 + 4 * 5 + 1
    assert cost.memory == 4 * (2 * blobs + 3 * weights)  # values and gradients; weights also their history
    assert cost.disk == 4 * 3 * 2 * weights  # three snapshots of weights and history
    assert (cost.iterations, cost.seconds) == (1000, 0.0)


def test_a_dry_run_estimates_and_starts_nothing(experiment, tmp_path, capsys):
    experiment()
    (tmp_path / "w.caffemodel").touch()
    assert tool.main(["run", "e.prototxt", "--data", str(tmp_path), "--dry-run", "--threads", "1"]) == 0
    out = capsys.readouterr().out
    assert "a: " in out and "1,000 iterations" in out
    assert "2 of 2 trainings to do" in out and "disk: needs 0.00 GB" in out
    assert not (tmp_path / "runs").exists()


def test_too_little_disk(experiment, tmp_path, capsys):
    experiment(gigabytes=1e9)
    (tmp_path / "w.caffemodel").touch()
    assert tool.main(["run", "e.prototxt", "--data", str(tmp_path), "--dry-run", "--threads", "1"]) == 1
    assert "cannot start: not enough disk: 1000000000.00 GB are needed" in capsys.readouterr().err


def test_too_little_memory(experiment, tmp_path, capsys, monkeypatch):
    experiment()
    (tmp_path / "w.caffemodel").touch()
    monkeypatch.setattr(checks, "free_memory", lambda device: 10)
    assert tool.main(["run", "e.prototxt", "--data", str(tmp_path), "--dry-run", "--threads", "1"]) == 1
    assert "cannot start: not enough memory" in capsys.readouterr().err


def test_a_run_that_lacks_something_does_not_start(experiment, tmp_path):
    experiment()
    with pytest.raises(ValueError, match="give --data DIR"):
        tool.main(["run", "e.prototxt"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--parallel", "0"], "--parallel must be at least 1"),
        (["--devices", "7"], "torch finds no CUDA device|no such device"),
        (["--seeds", "9"], "has no seed 9"),
        (["--nets", "z"], "has no net 'z'; it has a"),
    ],
)
def test_wrong_flags(experiment, flags, message):
    experiment()
    with pytest.raises(ValueError, match=message):
        tool.main(["run", "e.prototxt", *flags])


def test_unknown_experiments_are_told_the_known():
    with pytest.raises(ValueError, match=r"there is no experiment 'demo/table5'; known: .*demo/table4"):
        tool.main(["run", "demo/table5"])
