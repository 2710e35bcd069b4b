"""CNN-RNN's experiments: the paper's figures in them, who trains on what, from archives to paths."""

import argparse
import shlex
from collections import Counter

import numpy as np
import pytest

from crnn.data.label_tree import read_tree
from crnn.experiments.answers import images_of
from crnn.experiments.label_paths import UNSAID, say
from crnn.experiments.spec import Way
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import dump
from crnn.tools.experiment import find, make_data

COARSE, FINE = Way("level1_accuracy", 1), Way("fine_accuracy", 1)


def figures(name: str, way: Way) -> dict[str, float]:
    experiment = find(name)
    found = {net.name: experiment.paper(net, way) for net in experiment.nets}
    return {name: figure for name, figure in found.items() if figure is not None}


def test_the_papers_figures():
    """Guo 2018, Tables 2, 4, 6 and 7."""
    plain = ["Coarse-to-fine", "Fine-to-coarse", "Fine-and-coarse", "CNN-RNN"]
    coarse, fine = figures("cnn_rnn/table2", COARSE), figures("cnn_rnn/table2", FINE)
    assert [coarse[name] for name in plain] == [73.88, 75.02, 74.72, 80.81]
    assert [fine[name] for name in plain] == [58.41, 61.75, 61.8, 69.69]
    plus = {name: (coarse[f"{name}+"], fine[f"{name}+"]) for name in plain}
    assert list(plus.values()) == [(78.1, 64.16), (78.16, 65.56), (77.56, 64.87), (83.21, 72.26)]
    coarse, fine = figures("cnn_rnn/table4", COARSE), figures("cnn_rnn/table4", FINE)
    nets = ("CNN-7", "wrn-28-10", "wider-ResNet")
    assert [coarse[f"{net}-coarse"] for net in nets] == [82.09, 82.59, 85.38]
    assert [fine[f"{net}-fine"] for net in nets] == [72.03, 74.55, 77.97]
    assert [coarse[f"{net}-RNN"] for net in nets] == [83.21, 85.39, 88.23]
    assert [fine[f"{net}-RNN"] for net in nets] == [72.26, 76.23, 79.14]
    table5 = {"wrn-28-10-fine": 25.45, "wrn-28-10-RNN": 23.77, "wider-ResNet-fine": 22.03}
    assert all(fine[name] == pytest.approx(100 - error) for name, error in table5.items())
    assert list(figures("cnn_rnn/table6", FINE).values()) == [75.09, 76.17, 77.27, 76.01, 82, 90.69]
    table7 = figures("cnn_rnn/table7", FINE)
    assert [table7[f"{fine}+0.5"] for fine in ("0.1", "0.2", "0.5")] == [74.26, 75.64, 77.12]


def test_the_rates_of_section_411():
    experiment = find("cnn_rnn/table4")
    for net in experiment.nets:
        solver = experiment.solver_text(net)
        wrn = net.name.startswith("wrn")
        assert (solver.max_iter, list(solver.stepvalue)) == (
            70_000,
            [20_000, 40_000, 60_000] if wrn else [40_000, 60_000],
        )
        assert (round(solver.base_lr, 6), round(solver.gamma, 6)) == (0.1, 0.2 if wrn else 0.1)
        data = next(one for one in experiment.net_text(net).layer if one.type == "Data")
        assert data.data_param.batch_size == 200


def shares(experiment) -> dict[str, tuple[float, float]]:
    """Database -> the share of S that it is."""
    found = {}
    for data in experiment.message.data:
        words = shlex.split(data.command[0])
        if words[1] == "part":
            assert list(data.makes) == [words[3]]
            found[words[3]] = float(words[4]), float(words[5])
    return found


@pytest.mark.parametrize(
    ("name", "whole", "pairs"), [("cnn_rnn/table7", 1, 9), ("demo/cnn_rnn/table7", 1, 3)]
)
def test_s_fine_and_s_coarse_are_disjoint_and_together_what_is_trained_on(name, whole, pairs):
    """Section 4.2. Only the answering net's own part has fine labels; what it labels follows it."""
    experiment = find(name)
    known, found = shares(experiment), []
    nets = {net.name: experiment.net_text(net) for net in experiment.nets}
    for net in experiment.nets:
        sources = [one.data_param.source for one in nets[net.name].layer if one.type == "Data"][:2]
        images, paths = (known.get(source, (0, whole)) for source in sources)
        assert images == paths and images[0] == 0
        if net.HasField("answers"):
            fine = known[images_of(nets[net.answers.net], pb.TRAIN)]
            coarse = known[net.answers.records]
            assert fine[1] == coarse[0] and coarse[1] == pytest.approx(images[1])
            assert net.answers.paths == sources[1]
            assert (net.answers.decode.given, net.answers.decode.valid) == (1, True)
            found.append((fine[1], round(coarse[1] - coarse[0], 6)))
    splits = [0.1, 0.2, 0.5] if pairs == 9 else [0.5]
    assert sorted(found) == [(fine, coarse) for fine in (0.1, 0.2, 0.5) for coarse in splits]


def test_every_database_that_is_read_is_made():
    """By a command of the experiment; each by one only, or by the same one."""
    for name in ("table2", "table4", "table6", "table7", "paths", "../demo/cnn_rnn/table2"):
        experiment = find(name.removeprefix("../") if "demo" in name else f"cnn_rnn/{name}")
        makers = Counter(path for data in experiment.message.data for path in data.makes)
        assert set(makers.values()) == {1}
        read = {experiment.message.tree}
        for net in experiment.nets:
            layers = experiment.net_text(net).layer
            read |= {one.data_param.source for one in layers} | {
                one.transform_param.mean_file for one in layers
            }
            read.add(net.answers.records)
        assert read - {""} <= set(makers)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """The official binary archive's files with 200 + 100 records; fine label i is of group i // 5."""
    monkeypatch.chdir(tmp_path)
    rng, files = np.random.default_rng(0), {}
    for part, count in (("train", 200), ("test", 100)):
        rows = rng.integers(0, 256, (count, 2 + 3072), np.uint8)
        rows[:, 1] = np.arange(count) % 100
        rows[:, 0] = rows[:, 1] // 5
        files[f"cifar-100-binary/{part}.bin"] = rows.tobytes()
    for level, n in (("coarse", 20), ("fine", 100)):
        files[f"cifar-100-binary/{level}_label_names.txt"] = "".join(
            f"{level}{i}\n" for i in range(n)
        ).encode()
    (tmp_path / "in/cifar-100-binary").mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path


def test_from_the_official_archive_to_label_paths(cifar):
    """Table 2's data are made by its commands; nets of both kinds read them and say paths."""
    experiment = find("cnn_rnn/table2")
    assert make_data(experiment, argparse.Namespace(data=cifar / "in", devices=[])) == 0
    tree, said = read_tree("data/cifar100/tree.txt"), {}
    for name in ("Fine-and-coarse", "CNN-RNN+"):
        text = experiment.net_text(experiment.net(name))
        for layer in text.layer:
            if layer.type == "Data":
                layer.data_param.batch_size = 50
        net = Net(dump(text), phase="TEST")
        said[name] = say(net, tree)
        for layer in net.layers:
            if layer.type == "Data":
                layer.loader.close()
        assert ("plain" in images_of(text, pb.TEST)) == (not name.endswith("+"))
    for one in said.values():
        assert one.predicted.shape == (100, 2) and not (one.predicted == UNSAID).any()
        assert one.labels.tolist() == list(range(100))
        assert one.truth[7].tolist() == [1, 20 + 7]
