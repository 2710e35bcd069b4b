"""A CNN-RNN experiment from its file to its report, with a net that trains on another's answers."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.label_tree import parse_tree
from crnn.data.lmdb_reader import LmdbReader
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools import label_paths, part
from crnn.experiments import states
from crnn.experiments.answers import images_of
from crnn.experiments.jobs import jobs_of
from crnn.experiments.label_paths import LabelPaths, say
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import PrototxtError
from crnn.tools import experiment as tool
from tests.systems.test_cnn_rnn import generate

TREE = "all\n  animal\n    dog\t1\n    cat\t2\n  mineral\n    rock\t0\n"
SOLVER = 'base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" max_iter: 10 snapshot: 5 display: 5\n'
EXPERIMENT = """
title: "Tiny"  source: "Nobody 2018"  tree: "data/tree.txt"
solver: "solver.prototxt"  seed: [1, 2]  views: 1
measure: ["level1_accuracy", "fine_accuracy", "consistency"]
net { name: "both" net: "both.prototxt" layer { name: "data" data_param { source: "data/fine_lmdb" } }
  layer { name: "path" data_param { source: "data/fine_paths_lmdb" } } }
net { name: "few" net: "rnn.prototxt" layer { name: "data" data_param { source: "data/fine_lmdb" } }
  layer { name: "path" data_param { source: "data/fine_paths_lmdb" } } }
net { name: "answered" net: "rnn.prototxt"
  answers { net: "few" records: "data/coarse_lmdb" paths: "data/train_paths_lmdb"
            decode { valid: true given: 1 } } }
net { name: "beam" net: "rnn.prototxt" from_net: "few" only_test: true decode { beam: 3 } }
"""
TRAIN, FINE, TEST = 20, 8, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of one bright pixel, the label; 12 of the 20 training records have coarse labels alone."""
    folder, rng = tmp_path_factory.mktemp("answers"), np.random.default_rng(0)
    (folder / "data").mkdir()
    (folder / "data" / "tree.txt").write_text(TREE)
    data = generate.Data("data", (3, 1, 1), 2, 3, 4)
    for head in ("rnn", "fine-and-coarse"):
        text = generate.text(head, data, "features", generate.Head(head, 5))
        (folder / f"{head.replace('fine-and-coarse', 'both')}.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(SOLVER)
    (folder / "experiment.prototxt").write_text(EXPERIMENT)
    for name, count in (("train", TRAIN), ("test", TEST)):
        with LmdbWriter(folder / f"data/{name}_lmdb") as database:
            for i, label in enumerate(rng.integers(0, 3, count)):
                image = np.zeros((3, 1, 1), np.uint8)
                image[label] = 3
                database.put(b"%08d" % i, encode(image, int(label)))
        paths = [f"data/{name}_lmdb", "data/tree.txt", f"data/{name}_paths_lmdb"]
        label_paths.main([str(folder / path) for path in paths])
    for kind in ("", "_paths"):
        part.main(
            [*(str(folder / f"data/{n}{kind}_lmdb") for n in ("train", "fine")), "0", str(FINE / TRAIN)]
        )
    part.main([*(str(folder / f"data/{n}_lmdb") for n in ("train", "coarse")), str(FINE / TRAIN), "1"])
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """Two nets of the experiment, first seed, run in one go."""
    pytest.importorskip("sklearn", reason="runs where scikit-learn is installed (pip install crnn[svm])")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["--out", "whole", "--seeds", "1", "--nets", "few,answered"]
        assert tool.main(["run", "experiment.prototxt", *words]) == 0
    return folder / "whole"


def labels(path) -> dict[str, int]:
    reader = LmdbReader(path)
    found = {key.decode(): pb.Datum.FromString(value).label for key, value in reader.items()}
    reader.close()
    return found


def test_the_coarse_labelled_records_get_the_answers_of_the_first_net(whole, inside):
    """S_fine keeps its labels; of S_coarse each answer is below the coarse label that was given."""
    job = whole / "answered" / "seed_1"
    true, got = labels("data/train_paths_lmdb"), labels(job / "answered_paths_lmdb")
    answers = LabelPaths.load(job / "answers.npz")
    assert answers.given == 1 and answers.consistency == 1
    assert answers.keys.tolist() == [f"{i:08d}" for i in range(FINE, TRAIN)]
    want = {**true, **dict(zip(answers.keys.tolist(), answers.answers.tolist(), strict=True))}
    assert got == want
    tree = parse_tree(TREE.splitlines())
    assert all(tree.path(got[key])[0] == tree.path(true[key])[0] for key in true)


def test_the_second_net_is_trained_on_them_and_tested_as_the_others(whole):
    text = (whole / "answered/seed_1/train_val.prototxt").read_text()
    assert re.findall(r'source: "(.*)"', text) == [
        *("data/train_lmdb", "whole/answered/seed_1/answered_paths_lmdb"),
        *("data/test_lmdb", "data/test_paths_lmdb"),
    ]
    manifest = json.loads((whole / "answered/seed_1/manifest.json").read_text())
    assert list(manifest["weights"]) == ["few/seed_1/few_iter_10.caffemodel"]
    assert "data/tree.txt" in manifest["data"]
    log = (whole / "answered/seed_1/log.txt").read_text()
    commands = re.findall(r"^\$ crnn (\w+(?: paths)?)", log, re.MULTILINE)
    assert commands == ["test", "data paths", "train", "test"]
    assert "--weights whole/few/seed_1/few_iter_10.caffemodel" in log


def test_the_same_command_goes_on_where_labels_were_lost(whole, inside, capsys):
    shutil.copytree(whole, "lost")
    for name in ("few", "answered"):  # as a run that was killed before the labels were laid among the paths
        for file in [
            *Path("lost", name, "seed_1").glob("*.prototxt"),
            Path("lost", name, "seed_1/manifest.json"),
        ]:
            file.write_text(file.read_text().replace("whole/", "lost/"))
    for file in (*Path("lost/answered/seed_1").glob("answered_*"), Path("lost/answered/seed_1/views_1.npz")):
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    words = ["run", "experiment.prototxt", "--out", "lost", "--seeds", "1", "--nets", "few,answered"]
    assert tool.main(words) == 0
    assert labels("lost/answered/seed_1/answered_paths_lmdb") == labels(
        whole / "answered/seed_1/answered_paths_lmdb"
    )


def test_the_report_has_a_table_a_measure_paths_and_states(whole):
    text, page = (whole / "report.md").read_text(), (whole / "report.html").read_text()
    for heading in ("## Level 1 accuracy, 1 view", "## Fine accuracy, 1 view", "## Consistency, 1 view"):
        assert heading in text
    for part_of_it in ("<h2>Label paths</h2>", "<b>mineral → rock</b>", "<h2>States of each step</h2>"):
        assert part_of_it in page
    assert page.count("<figcaption>step ") == 2


def test_without_scikit_learn_the_report_says_what_is_missing(whole, inside, monkeypatch):
    monkeypatch.setattr("crnn.experiments.told.has_tsne", lambda: False)
    assert tool.main(["report", "experiment.prototxt", "--out", "whole"]) == 0
    page = (whole / "report.html").read_text()
    assert "pip install crnn[svm]" in page and "<figcaption>step " not in page


def test_states_are_those_of_the_decoded_paths(whole, inside):
    """Of two records, the first and the last: T = 2 steps of D = 5 units, as a forward on the paths has."""
    job = next(job for job in jobs_of(tool.find("experiment.prototxt"), Path("whole")) if job.name == "few")
    net = Net(str(job.folder / "train_val.prototxt"), phase="TEST", weights=job.trained_weights)
    got, truth = states.states(net, parse_tree(TREE.splitlines()), most=2)
    predicted = LabelPaths.load(job.folder / "views_1.npz").predicted[[0, TEST - 1]]
    images = [net.layer("data_test").loader.records(i, 1) for i in (0, TEST - 1)]
    net(
        data=np.concatenate([image for image, _ in images]).astype(np.float32),
        label=np.zeros(2, np.float32),
        path=predicted[:, :, None, None].astype(np.float32),
    )
    assert got.shape == (2, 2, 5) and truth.tolist() == [int(label[0]) for _, label in images]
    np.testing.assert_allclose(got, net.blobs["lstm"].detach().numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("tree", "way", "says"),
    [
        ("a\n  b\n    c\n      d\n  e", {}, "the path of 'd' has 3 labels and an end, the net 2 steps"),
        (
            "a\n  b\n    c\n    d",
            {},
            "the tree has 3 categories, blob 'scores' of net 'features-rnn' scores 5: num_output must be the",
        ),
        (TREE, {"given": 3}, "3 labels of each path cannot be given: that of 'rock' has 2"),
        (TREE, {"beam": 0}, "wanted a beam of 1 or more"),
    ],
)
def test_a_net_and_a_tree_that_do_not_fit(inside, tree, way, says):
    net = Net("rnn.prototxt", phase="TEST")
    with pytest.raises(ValueError, match=re.escape(says)):
        say(net, parse_tree(tree.splitlines()), pb.DecodeParameter(**way))


def test_the_images_of_a_net_are_its_first_data_layers(inside):
    net = tool.find("experiment.prototxt").net_text(tool.find("experiment.prototxt").net("few"))
    assert images_of(net, pb.TRAIN) == "data/fine_lmdb" and images_of(net, pb.TEST) == "data/test_lmdb"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            'answers { net: "few"',
            'answers { net: "beam"',
            "'beam' is no net that is trained before it: both, few",
        ),
        ('tree: "data/tree.txt"', "", "label paths are decoded by the experiment's `tree`, which it has not"),
        (
            'paths: "data/train_paths_lmdb"',
            "",
            "answers need `records` and `paths`, and the experiment a `tree`",
        ),
        ("views: 1", "views: 10", "label paths are tested with 1 view: views must be 1"),
        ("views: 1", "views: 1 cost_curve: true", "label paths have no cost curve: leave out `tree` or"),
        (
            "only_test: true decode { beam: 3 }",
            'answers { net: "few" }',
            "they do not go with only_test, svm",
        ),
    ],
)
def test_what_does_not_go_together(inside, old, new, says):
    Path("wrong.prototxt").write_text(EXPERIMENT.replace(old, new))
    with pytest.raises(PrototxtError, match=re.escape(says)):
        tool.find("wrong.prototxt")


def test_answers_of_a_net_that_is_not_run(inside, capsys):
    words = ["run", "experiment.prototxt", "--out", "none", "--seeds", "2", "--nets", "answered"]
    with pytest.raises(
        ValueError, match="answered, seed 2 is trained on the answers of few, seed 2, which is"
    ):
        tool.main(words)
