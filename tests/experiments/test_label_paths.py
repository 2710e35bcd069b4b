"""Measures of label paths against counts by hand; what nets of each kind say, tested by the command."""

import re

import numpy as np
import pytest
import torch

from crnn.__main__ import main
from crnn.data.datum import encode
from crnn.data.label_tree import parse_tree
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools import label_paths as paths_tool
from crnn.experiments.evaluate import Evaluation, evaluate
from crnn.experiments.label_paths import UNSAID, LabelPaths, say
from crnn.experiments.measures import load, score
from crnn.net.net import Net
from crnn.net.weights import save
from crnn.proto import pb

#: rock 2, dog 3, cat 4 below animal 0 and mineral 1: two levels. Labels rock 0, dog 1, cat 2.
TREE = "all\n  animal\n    dog\t1\n    cat\t2\n  mineral\n    rock\t0\n"
#: a rock is one label deep: end 4. animal 0, rock 1, dog 2, cat 3.
UNEVEN = "all\n  rock\t0\n  animal\n    dog\t1\n    cat\t2\n"


def said(predicted, labels, text=TREE, given=0) -> LabelPaths:
    tree = parse_tree(text.splitlines())
    keys = np.arange(len(labels)).astype(str)
    end = -1 if tree.end is None else tree.end
    sequences = tree.sequences()
    return LabelPaths(np.array(predicted), np.array(labels), keys, sequences, tree.inner, end, given)


@pytest.fixture
def counted():
    """Six records. Right; a wrong dog; a wrong animal; a cat below mineral; only coarse labels; a leaf first.

    truth       1 2     0 3     1 2     0 4     0 3     0 3
    """
    predicted = [[1, 2], [0, 4], [0, 3], [1, 4], [0, 1], [3, 3]]
    return said(predicted, [0, 1, 0, 2, 1, 1])


def test_the_share_of_each_level(counted):
    assert counted.level_accuracy(1) == pytest.approx(3 / 6)
    assert counted.level_accuracy(2) == pytest.approx(3 / 6)
    assert np.isnan(counted.level_accuracy(3)) and counted.levels == 2


def test_the_label_that_a_path_ends_with(counted):
    assert counted.answers.tolist() == [0, 2, 1, 2, -1, 1]
    assert counted.fine_accuracy == pytest.approx(3 / 6)


def test_a_path_is_right_as_a_whole_and_consistent_if_it_is_of_the_tree(counted):
    assert counted.path_accuracy == pytest.approx(1 / 6)
    assert counted.consistency == pytest.approx(3 / 6)


def test_paths_of_several_lengths():
    """Right twice; a rock that goes on; a dog whose path has no end; a cat that ends as animal."""
    predicted = [[1, 4, -1], [0, 2, 4], [1, 2, 4], [0, 2, 2], [0, 4, -1]]
    result = said(predicted, [0, 1, 0, 1, 2], UNEVEN)
    assert result.levels == 2
    assert [result.level_accuracy(t) for t in (1, 2)] == [1, pytest.approx(2 / 3)]  # a rock has no second
    assert result.answers.tolist() == [0, 1, 1, 1, -1]
    assert result.fine_accuracy == pytest.approx(3 / 5)
    assert result.path_accuracy == result.consistency == pytest.approx(2 / 5)


def test_what_is_not_said_has_no_figure():
    result = said([[1, UNSAID], [0, UNSAID]], [0, 0])
    assert result.level_accuracy(1) == 0.5
    assert np.isnan([result.level_accuracy(2), result.fine_accuracy]).all()
    assert np.isnan([result.path_accuracy, result.consistency]).all()
    assert result.answers.tolist() == [-1, -1]
    given = said([[1, 2]], [0], given=1)
    assert np.isnan(given.level_accuracy(1)) and given.fine_accuracy == 1


def test_measures_are_in_percent_and_of_their_kind(counted):
    assert score(counted, "level1_accuracy") == pytest.approx(50)
    assert score(counted, "path_accuracy") == pytest.approx(100 / 6)
    with pytest.raises(ValueError, match=r"top1_error is of a label an image, .* tested on label paths"):
        score(counted, "top1_error")


def test_a_file_gives_back_what_was_saved(counted, tmp_path):
    counted.save(tmp_path / "a.npz")
    again = load(tmp_path / "a.npz")
    assert isinstance(again, LabelPaths)
    np.testing.assert_array_equal(again.predicted, counted.predicted)
    assert (again.consistency, again.keys.tolist()) == (counted.consistency, counted.keys.tolist())
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"b.npz holds no label paths .*: remove it and test again"):
        LabelPaths.load(tmp_path / "b.npz")


# ---- nets ----

DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  data_param { source: "images" batch_size: 3 backend: LMDB } }
"""
PATHS = """layer { name: "path" type: "Data" top: "path" include { phase: TEST }
  data_param { source: "paths" batch_size: 3 backend: LMDB } }
"""
COARSE = """layer { name: "coarse" type: "InnerProduct" bottom: "data" top: "coarse"
  inner_product_param { num_output: 2 } }
layer { name: "level" type: "Slice" bottom: "path" top: "coarse_label" top: "fine_category"
  slice_param { axis: 1 slice_point: 1 } }
layer { name: "coarse_loss" type: "SoftmaxWithLoss" bottom: "coarse" bottom: "coarse_label" top: "loss1" }
"""
FINE = """layer { name: "fine" type: "InnerProduct" bottom: "data" top: "fine"
  inner_product_param { num_output: 3 } }
layer { name: "fine_loss" type: "SoftmaxWithLoss" bottom: "fine" bottom: "label" top: "fine_loss" }
"""
KINDS = {
    "fine": DATA + FINE,
    "coarse": DATA + PATHS + COARSE,
    "both": DATA + PATHS + COARSE + FINE,
    "two": DATA + FINE.replace("num_output: 3", "num_output: 2"),
    "four": DATA + FINE.replace("num_output: 3", "num_output: 4"),
}
#: (coarse, fine) that the image of each record speaks for, and its label: seven records in batches of three.
SPOKEN = [(1, 0), (0, 1), (1, 1), (0, 2), (0, 0), (1, 2), (0, 1)]
LABELS = [0, 1, 1, 2, 0, 0, 2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images of five pixels, of which one speaks for a coarse and one for a fine label."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree.txt").write_text(TREE)
    with LmdbWriter("images") as database:
        for i, ((coarse, fine), label) in enumerate(zip(SPOKEN, LABELS, strict=True)):
            image = np.zeros((5, 1, 1), np.uint8)
            image[[coarse, 2 + fine]] = 1
            database.put(b"%08d" % i, encode(image, label))
    assert paths_tool.main(["images", "tree.txt", "paths"]) == 0
    return tmp_path


@pytest.fixture
def make(folder):
    made = []

    def net(kind: str) -> Net:
        made.append(Net(KINDS[kind], phase="TEST"))
        with torch.no_grad():
            for name, rows in (("coarse", torch.eye(2, 5)), ("fine", torch.eye(3, 5).roll(2, 1))):
                if name in KINDS[kind].split('"') and kind in ("fine", "coarse", "both"):
                    made[-1].layer(name).blobs[0].copy_(rows)
        return made[-1]

    yield net
    for one in made:
        for layer in one.layers:
            if layer.type == "Data":
                layer.loader.close()


def spoken(kind: str) -> list[list[int]]:
    coarse_of = [1, 0, 0]  # of each label, by the tree
    return {
        "fine": [[coarse_of[f], 2 + f] for _, f in SPOKEN],
        "coarse": [[c, UNSAID] for c, _ in SPOKEN],
        "both": [[c, 2 + f] for c, f in SPOKEN],
    }[kind]


@pytest.mark.parametrize("kind", ["fine", "coarse", "both"])
def test_what_nets_of_each_kind_say(make, kind):
    told, tree = [], parse_tree(TREE.splitlines())
    result = say(make(kind), tree, progress=lambda *counts: told.append(counts))
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert result.predicted.tolist() == spoken(kind)
    assert (result.labels.tolist(), result.keys[6]) == (LABELS, "00000006")


def test_a_net_with_label_paths_beside_its_images_is_evaluated_as_before(make):
    result = evaluate(make("both"))
    assert isinstance(result, Evaluation) and result.predicted.tolist() == [f for _, f in SPOKEN]


def test_what_does_not_fit_is_said(make, folder):
    tree = parse_tree(TREE.splitlines())
    with pytest.raises(ValueError, match="has scores of 4 classes, the tree 3 labels and 2 categories above"):
        say(make("four"), tree)
    with pytest.raises(ValueError, match="makes no label paths step by step: nothing to decode"):
        say(make("fine"), tree, pb.DecodeParameter(beam=2))
    two = parse_tree(["all", "  a", "    b", "    c"])
    with pytest.raises(ValueError, match=r"record '00000003' has label 2 without a path: .* labels 0 to 1"):
        say(make("two"), two)


def test_the_command_scores_paths(make, folder, capsys):
    (folder / "net.prototxt").write_text(KINDS["both"])
    save(make("both"), "net.caffemodel")
    words = ["test", "-model", "net.prototxt", "-weights", "net.caffemodel", "--all", "--tree", "tree.txt"]
    assert main([*words, "--save", "a.npz"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "7 records, 3 labels below 2 categories"
    shares = {line.rpartition(" ")[0].rpartition(" ")[0]: line.split()[-2] for line in out[1:]}
    assert shares == {
        "level 1 accuracy": "71.43",  # 5 of 7
        "level 2 accuracy": "71.43",
        "fine accuracy": "71.43",
        "path accuracy": "42.86",
        "consistency": "57.14",
    }
    assert paths_tool.answered(folder / "a.npz", 5) == {"00000005": 2, "00000006": 1}
    for more, says in (
        (["--views", "10"], "label paths are tested with 1 view"),
        (["--decode", "beam 3"], "--decode:1"),
        (["--decode", "beam: 3"], "nothing to decode"),
        (["--tree", "no.txt"], "no.txt"),
    ):
        assert main([*words, *more]) == 1
        assert says in capsys.readouterr().err
    assert main([*words[:-2], "--decode", "beam: 3"]) == 1
    assert "--decode is of label paths: give their --tree" in capsys.readouterr().err
    assert main([*words[:-3], "--tree", "tree.txt"]) == 1
    assert re.search("--tree is of all records: give --all", capsys.readouterr().err)
