"""The figures of a report against a hand computation, and which jobs may stand in one table."""

import json
import math

import numpy as np
import pytest

from crnn.experiments import manifest
from crnn.experiments.evaluate import Evaluation
from crnn.experiments.jobs import jobs_of
from crnn.experiments.measures import score
from crnn.experiments.spec import Experiment
from crnn.experiments.table import comparison
from crnn.net import weights
from crnn.net.net import Net
from crnn.proto.text import PrototxtError
from crnn.report.comparison import markdown, page

NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 3 } }
"""
EXPERIMENT = """title: "A | B"  source: "P"  note: "Only a test."
solver: "solver.prototxt"  seed: [1, 2, 3]  views: 1  measure: "top1_error"  baseline: "base"
net { name: "base" net: "net.prototxt" paper { measure: "top1_error" views: 1 value: 42.71 } }
net { name: "mine" net: "net.prototxt" paper { measure: "top1_error" views: 1 value: 41.85 } }
"""
N = 20
#: wrong records of N by net and seed: differences of −1, −2 and −3 records
WRONG = {"base": [7, 12, 9], "mine": [6, 10, 6]}


@pytest.fixture
def jobs(tmp_path):
    """The finished jobs of the experiment, with the scores of WRONG."""
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text('base_lr: 0.1 lr_policy: "fixed" max_iter: 4')
    (tmp_path / "e.prototxt").write_text(EXPERIMENT)
    made = jobs_of(Experiment(tmp_path / "e.prototxt", "e"), tmp_path / "out")
    for job in made:
        job.place()
        finish(job, WRONG[job.name][job.seed - 1])
    return made


def finish(job, wrong: int, digest: str = "0") -> None:
    labels = np.zeros(N, np.int64)
    probabilities = np.tile(np.float32([0.8, 0.1, 0.1]), (N, 1))
    probabilities[:wrong] = [0.1, 0.8, 0.1]
    Evaluation(probabilities, labels, np.arange(N).astype(str)).save(job.folder / "views_1.npz")
    weights.save(Net(NET, phase="TEST"), job.folder / f"{job.name}_iter_4.caffemodel")
    rows = [
        {"phase": "train", "iter": i, "seconds": 2.0 * i + job.seed, "lr": 0.1, "loss": 1.0}
        | {"images_per_second": 50.0, "net": 0, "outputs": {}}
        for i in (0, 3)
    ]
    (job.folder / f"{job.name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    setup = {"device": f"machine {job.seed // 3}", "versions": "v"}
    manifest.record(job.folder, {"data": {"db": {"records": 5, "sha256": digest}}}, setup)


def test_means_intervals_and_paired_differences(jobs):
    result = comparison(jobs[0].experiment, jobs, "crnn experiment run e")
    (table,) = result.tables
    base, mine = table.rows
    assert base.seeds == pytest.approx({1: 35.0, 2: 60.0, 3: 45.0})  # percent of 20 records
    assert base.ours.value == pytest.approx(140 / 3)
    s = math.sqrt(((35 - 140 / 3) ** 2 + (60 - 140 / 3) ** 2 + (45 - 140 / 3) ** 2) / 2)
    assert base.ours.half == pytest.approx(4.3027 * s / math.sqrt(3), abs=1e-3)
    assert (mine.difference.value, mine.difference.n) == (pytest.approx(-10.0), 3)  # −5, −10, −15 points
    assert mine.difference.half == pytest.approx(4.3027 * 5 / math.sqrt(3), abs=1e-3)
    assert (mine.paper, mine.paper_difference) == (41.85, pytest.approx(-0.86))


def test_a_figure_taken_once_stands_for_every_seed(jobs, tmp_path):
    """As a baseline that is not trained is tested once."""
    weights.save(Net(NET, phase="TEST"), tmp_path / "w.caffemodel")
    once = EXPERIMENT.replace(
        '"base" net:', f'"base" weights: "{tmp_path}/w.caffemodel" only_test: true net:'
    )
    (tmp_path / "once.prototxt").write_text(once)
    made = jobs_of(Experiment(tmp_path / "once.prototxt", "e"), tmp_path / "once")
    assert [(job.name, job.seed) for job in made] == [("base", 1), *(("mine", seed) for seed in (1, 2, 3))]
    for job in made:
        job.place()
        finish(job, WRONG[job.name][job.seed - 1])
    (row,) = [row for row in comparison(made[0].experiment, made, "").tables[0].rows if row.net == "mine"]
    assert row.difference.value == pytest.approx(np.mean([-1, 3, -1]) * 5) and row.difference.n == 3


def test_cost_is_the_mean_training_of_a_net(jobs):
    result = comparison(jobs[0].experiment, jobs, "")
    cost = result.costs[0]
    assert (cost.parameters, cost.iterations, cost.images_per_second) == (3 * 3 + 3, 4, 50.0)
    assert cost.seconds == pytest.approx(6 + (1 + 2 + 3) / 3)


@pytest.mark.parametrize("tested", [False, True])
def test_without_display_a_speed_is_not_known(jobs, tested):
    """Its solver writes rows of tests alone, or no file."""
    row = {"phase": "test", "iter": 4, "seconds": 5.0, "lr": None, "loss": None}
    row |= {"images_per_second": None, "net": 0, "outputs": {}}
    for job in jobs:
        log = job.folder / f"{job.name}.jsonl"
        log.write_text(json.dumps(row) + "\n") if tested else log.unlink()
    result = comparison(jobs[0].experiment, jobs, "")
    seconds = [5.0] if tested else [math.nan]
    assert [cost.seconds for cost in result.costs] == pytest.approx(2 * seconds, nan_ok=True)
    assert all(math.isnan(cost.images_per_second) for cost in result.costs)
    assert markdown(result) and page(result)


def test_the_pages_say_all_of_it(jobs):
    result = comparison(jobs[0].experiment, jobs, "crnn experiment run e")
    text, html = markdown(result), page(result)
    assert "| mine | 3 | 36.67 ± 28.68 | −10.00 (−22.42 to +2.42) | 41.85 | −0.86 |" in text
    for part in (
        "6 of 6 trainings",
        "Only a test.",
        "machine 0 (4 runs); machine 1 (2 runs)",
        "crnn experiment run e",
    ):
        assert part in text and part in html
    assert "−10.00 (−22.42 to +2.42)" in html and "<svg" in html


def test_a_net_may_have_a_baseline_of_its_own(jobs, tmp_path):
    """Two nets more: the last one minus mine, the others minus base."""
    path = tmp_path / "e.prototxt"
    path.write_text(EXPERIMENT + 'net { name: "third" net: "net.prototxt" baseline: "mine" }')
    made = jobs_of(Experiment(path, "e"), tmp_path / "out")
    for job in made:
        if job.name == "third":
            job.place()
            finish(job, WRONG["mine"][job.seed - 1] - 1)
    result = comparison(made[0].experiment, made, "")
    base, mine, third = result.tables[0].rows
    assert (base.baseline, mine.baseline, third.baseline) == ("", "", "mine")
    assert third.difference.value == pytest.approx(-5)  # one record of 20
    assert "−5.00 (−5.00 to −5.00); minus mine |" in markdown(result)
    assert "third − mine" in page(result)
    path.write_text(EXPERIMENT + 'net { name: "third" net: "net.prototxt" baseline: "none" }')
    with pytest.raises(
        PrototxtError, match="'none' must be one of base, mine, third, and the experiment have"
    ):
        Experiment(path, "e")


def test_unfinished_jobs_are_left_out(jobs):
    (jobs[0].folder / "views_1.npz").unlink()  # base, seed 1
    result = comparison(jobs[0].experiment, jobs, "")
    base, mine = result.tables[0].rows
    assert (base.ours.n, mine.ours.n, mine.difference.n) == (2, 3, 2)
    assert mine.difference.value == pytest.approx(-12.5)


def test_jobs_of_other_texts_do_not_count(jobs):
    text = jobs[0].folder / "solver.prototxt"
    text.write_text(text.read_text().replace("max_iter: 4", "max_iter: 3"))
    assert not jobs[0].done
    assert len(comparison(jobs[0].experiment, jobs, "").tables[0].rows[0].seeds) == 2


def test_jobs_of_other_data_are_refused(jobs):
    (jobs[1].folder / "manifest.json").unlink()
    finish(jobs[1], 5, digest="1")
    with pytest.raises(ValueError, match="mine, seed 1 and base, seed 1 are made with different db"):
        comparison(jobs[0].experiment, jobs, "")


def test_nothing_finished(jobs):
    for job in jobs:
        (job.folder / "views_1.npz").unlink()
    with pytest.raises(ValueError, match="no job of e is finished in"):
        comparison(jobs[0].experiment, jobs, "")


def test_measures():
    p = np.array([[0.5, 0.3, 0.2, 0, 0, 0], [0, 0.1, 0.2, 0.3, 0.4, 0], [0.1, 0.2, 0.3, 0.4, 0, 0.01]], "f4")
    evaluation = Evaluation(p, np.array([0, 1, 0]), np.array(list("abc")))
    got = {
        m: score(evaluation, m) for m in ("top1_error", "top5_error", "top1_accuracy", "mean_class_accuracy")
    }
    assert got == {
        "top1_error": pytest.approx(200 / 3),
        "top5_error": pytest.approx(0.0),
        "top1_accuracy": pytest.approx(100 / 3),
        "mean_class_accuracy": pytest.approx(25.0),  # class 0: 1 of 2, class 1: 0 of 1
    }


def test_jobs_from_other_weights_are_refused(jobs):
    for job, digest in zip(jobs[:2], ("0", "1"), strict=True):
        path = job.folder / "manifest.json"
        told = json.loads(path.read_text())
        path.write_text(json.dumps({**told, "weights": {"w.caffemodel": {"sha256": digest}}}))
    with pytest.raises(ValueError, match=r"are made with different w\.caffemodel"):
        comparison(jobs[0].experiment, jobs, "")
