"""An experiment's file: what it says, and what is wrong with it, by file and line."""

import pytest

from crnn.experiments.jobs import jobs_of
from crnn.experiments.spec import Experiment, Way
from crnn.proto.text import PrototxtError

NET = """layer { name: "x" type: "Input" top: "x" }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" }
"""
GOOD = """title: "T"
solver: "solver.prototxt"
solver_param { max_iter: 5 }
seed: [1, 2]
views: [1, 10]
measure: ["top1_error", "top5_error"]
baseline: "a"
net { name: "a" net: "net.prototxt" paper { measure: "top1_error" views: 10 value: 40.16 } }
net { name: "b" net: "net.prototxt" solver_param { base_lr: 0.5 } weights: "w_{seed}.caffemodel" }
"""


@pytest.fixture
def read(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    (tmp_path / "solver.prototxt").write_text('base_lr: 0.1 lr_policy: "fixed" max_iter: 9 net: "other"')

    def make(text: str = GOOD) -> Experiment:
        (tmp_path / "e.prototxt").write_text(text)
        return Experiment(tmp_path / "e.prototxt", "e")

    return make


def test_ways_seeds_and_published_figures(read):
    experiment = read()
    assert [str(way) for way in experiment.ways] == [
        "top-1 error, 1 view",
        "top-5 error, 1 view",
        "top-1 error, 10 views",
        "top-5 error, 10 views",
    ]
    a, b = experiment.nets
    assert experiment.paper(a, Way("top1_error", 10)) == 40.16
    assert experiment.paper(b, Way("top1_error", 10)) is None


def test_solvers_are_the_file_then_the_experiments_fields_then_the_nets(read):
    experiment = read()
    a, b = (experiment.solver_text(net) for net in experiment.nets)
    assert (a.max_iter, round(a.base_lr, 6)) == (5, 0.1)
    assert (b.max_iter, b.base_lr) == (5, 0.5)
    assert not a.HasField("net")


def test_layers_that_make_a_frozen_blob_keep_their_weights(read, tmp_path):
    fields = "inner_product_param { num_output: 2 }"
    text = f'{NET} layer {{ name: "fc2" type: "InnerProduct" bottom: "y" top: "z" {fields} }}'
    (tmp_path / "net.prototxt").write_text(text)
    experiment = read(GOOD.replace('net { name: "b"', 'net { name: "b" frozen: "y"'))
    rates = {
        layer.name: [param.lr_mult for param in layer.param]
        for layer in experiment.net_text(experiment.net("b")).layer
    }
    assert rates == {"x": [], "fc": [0, 0], "fc2": []}
    with pytest.raises(PrototxtError, match="has no blob 'w' below which to freeze"):
        read(GOOD.replace('net { name: "b"', 'net { name: "b" frozen: "w"'))


@pytest.mark.parametrize(
    ("layer", "rates"),
    [('"PReLU"', [0]), ('"Bias"', [0]), ('"RNN" param { } param { lr_mult: 2 } bottom: "y"', [0, 0])],
)
def test_frozen_layers_of_other_types_keep_their_weights_too(read, tmp_path, layer, rates):
    (tmp_path / "net.prototxt").write_text(f'{NET} layer {{ name: "l" bottom: "y" top: "z" type: {layer} }}')
    experiment = read(GOOD.replace('net { name: "b"', 'net { name: "b" frozen: "z"'))
    (frozen,) = [one for one in experiment.net_text(experiment.net("b")).layer if one.name == "l"]
    assert [param.lr_mult for param in frozen.param] == rates


def test_a_layer_whose_blobs_are_not_known_is_not_left_learning(read, tmp_path):
    fields = "spatial_rnn_param { num_output: 3 }"
    text = f'{NET} layer {{ name: "rnn" type: "SpatialRNN" bottom: "y" top: "z" {fields} }}'
    (tmp_path / "net.prototxt").write_text(text)
    with pytest.raises(PrototxtError, match=r"layer 'rnn' \(SpatialRNN\) is below 'z': give it a param"):
        read(GOOD.replace('net { name: "b"', 'net { name: "b" frozen: "z"'))


def test_jobs_go_seed_by_seed(read, tmp_path):
    assert [str(job) for job in jobs_of(read(), tmp_path)] == [
        "a, seed 1",
        "b, seed 1",
        "a, seed 2",
        "b, seed 2",
    ]
    assert [str(job) for job in jobs_of(read(), tmp_path, [2], ["b"])] == ["b, seed 2"]
    (job,) = jobs_of(read(), tmp_path, [2], ["b"])
    assert list(job.solver().weights) == ["w_2.caffemodel"]
    assert (job.solver().random_seed, job.solver().net) == (2, f"{tmp_path}/b/seed_2/train_val.prototxt")
    with pytest.raises(ValueError, match="e has no seed 3; it has 1, 2"):
        jobs_of(read(), tmp_path, [3])


def test_what_is_not_trained_is_done_once(read, tmp_path):
    svm = 'weights: "w.caffemodel" svm { blob: "fc" c: 1 }'
    experiment = read(
        GOOD.replace("solver_param { base_lr: 0.5 }", "").replace('weights: "w_{seed}.caffemodel"', svm)
    )
    assert [str(job) for job in jobs_of(experiment, tmp_path)] == ["a, seed 1", "b, seed 1", "a, seed 2"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('title: "T"\n', "\n", "e.prototxt: an experiment needs title"),
        ("seed: [1, 2]", "seed: [1, 1]", "e.prototxt:4:11: seed 1 is given twice"),
        ("views: [1, 10]", "views: [1, 5]", "e.prototxt:5:12: views must be 1 or 10, got 5"),
        ('"top5_error"', '"top3"', "e.prototxt:6:25: unknown measure 'top3'; known: top1_error, "),
        ('baseline: "a"', 'baseline: "c"', "e.prototxt:7:1: baseline 'c' is none of the nets a, b"),
        ('name: "b"', 'name: "a"', "e.prototxt:9:7: the name 'a' is taken by an earlier net"),
        ('name: "b"', 'name: "b/c"', "e.prototxt:9:7: net 'b/c': a net's name is made of letters"),
        ("views: 10 v", "views: 3 v", "e.prototxt:8:37: net 'a': top1_error with 3 views is not measured"),
        ('solver: "solver', 'solver: "sover', "net 'a': there is no solver file "),
        ('b" net: "net.prototxt"', 'b" net: "n.prototxt"', "e.prototxt:9:17: net 'b': there is no net file"),
        (
            "solver_param { base",
            'layer { name: "fd" } solver_param { base',
            "has no layer 'fd' to replace fields of",
        ),
        (
            "solver_param { base",
            'without: "fd" solver_param { base',
            "has no layer 'fd' with one bottom and one top",
        ),
        ("solver_param { base", "svm { c: 1 } solver_param { base", "an svm needs a `blob`"),
        ('net { name: "a"', 'net { name: "a" only_test: true', "nothing is trained, so it needs `weights`"),
        (
            "seed:",
            'data { command: "rm -rf /" makes: "x" }\nseed:',
            "'rm -rf /' must be a `data` or `extract_features` command of crnn",
        ),
        ("seed:", 'data { command: "data info x" }\nseed:', "data needs a command and what it makes"),
        (
            "base_lr: 0.5",
            "base_rl: 0.5",
            "e.prototxt:9:52: unknown field 'base_rl' of SolverParameter; did you",
        ),
    ],
)
def test_problems_are_told_with_their_place(read, old, new, problem):
    assert GOOD.count(old) >= 1
    with pytest.raises(PrototxtError) as raised:
        read(GOOD.replace(old, new, 1) if old != 'name: "b"' else GOOD.replace(old, new))
    assert problem in str(raised.value)


def test_all_problems_at_once(read):
    with pytest.raises(PrototxtError) as raised:
        read(GOOD.replace("views: [1, 10]", "views: [2, 3]").replace('baseline: "a"', 'baseline: "z"'))
    assert len(raised.value.problems) >= 3
