"""The experiments that come with crnn: their files, nets, and the paper's figures in them."""

import pytest
import torch

from crnn.experiments.checks import without_data
from crnn.experiments.spec import Way
from crnn.layers import build
from crnn.net.net import Net
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net
from crnn.tools.experiment import SHIPPED, find, main, shipped

SUBSETS = ("right", "left", "down", "up", "horizontal", "vertical", "all")
TABLE4 = dict(zip(SUBSETS, (40.89, 40.86, 40.70, 40.74, 40.71, 40.53, 40.16), strict=True))


def small(experiment, net):
    """The net without data, for batches of one."""
    text = without_data(experiment.net_text(net), experiment)
    for layer in text.layer:
        for shape in layer.dummy_data_param.shape:
            shape.dim[0] = 1
    return text


def parameters(experiment, net) -> int:
    built = Net(dump(small(experiment, net)), phase="TRAIN")
    return sum(param.parameter.numel() for param in built.params)


def subset(directions: int) -> int:
    """Weights and biases of the demo's RNN layer."""
    return directions * (2 * 64 * 64 + 64)


@pytest.mark.parametrize("name", shipped())
def test_every_file_is_read_and_every_solver_is_whole(name):
    experiment = find(name)
    assert experiment.message.title
    for net in experiment.nets:
        if not net.HasField("svm"):
            solver = experiment.solver_text(net)
            assert solver.max_iter and solver.base_lr and solver.snapshot


@pytest.mark.parametrize("name", ["demo/readings", "demo/table4", "demo/table4_scenes"])
def test_the_demos_nets_build(name):
    experiment = find(name)
    counts = {net.name: parameters(experiment, net) for net in experiment.nets}
    if name == "demo/readings":
        assert set(counts.values()) == {112_301}
        return
    if name == "demo/chrnn":
        scales, links, fc = 4 * subset(4), 3 * 4 * 64 * 64, 5 * 64 * (9 + 4 + 1)
        assert counts["C-RNN"] == counts["none"] + subset(4)
        assert counts["HSRN-unlinked"] == counts["none"] + scales + fc
        assert counts["HSRN"] == counts["HSRN-fine-to-coarse"] == counts["HSRN-unlinked"] + links
        assert counts["HLSTM"] == counts["none"] + 4 * (scales + links) + fc
        return
    plain = counts["none"]
    for net, directions in {**dict.fromkeys(SUBSETS, 1), "horizontal": 2, "vertical": 2, "all": 4}.items():
        assert counts[net] == plain + subset(directions)
    if name == "demo/table4":
        assert (plain, counts["all"]) == (79_277, 112_301)


@pytest.mark.parametrize("name", ["demo/table4", "demo/table4_scenes"])
def test_all_nets_of_a_seed_start_as_the_same_function(name):
    """W_ih = I / K: the sum of K directions passes the map through; all other fillers draw alike."""
    experiment, outputs = find(name), []
    for net in experiment.nets:
        torch.manual_seed(1)
        built = Net(dump(small(experiment, net)), phase="TEST")
        images = torch.rand(3, *built.shapes["data"][1:], generator=torch.Generator().manual_seed(2))
        built(data=images, label=torch.zeros(3))
        outputs.append(built.blobs["fc"])
    for output in outputs[1:]:
        torch.testing.assert_close(output, outputs[0], rtol=0, atol=1e-6)


def test_the_net_without_the_layer_is_the_demos_twin():
    experiment = find("demo/table4")
    twin = read_net(SHIPPED / "demo" / "plain" / "train_val.prototxt").message
    assert list(experiment.net_text(experiment.net("none")).layer) == list(twin.layer)


def test_the_papers_figures():
    """Zuo 2015, Tables 1 to 4."""
    one = find("crnn/table1")
    figures = {
        net.name: [one.paper(net, Way(f"top{k}_error", views)) for views in (1, 10) for k in (1, 5)]
        for net in one.nets
    }
    assert figures == {"AlexNet": [42.71, 20.01, 41.35, 18.74], "C-RNN": [41.85, 19.15, 40.16, 17.78]}
    for table, want in (
        ("crnn/table2", [43.74, 47.12, 43.38, 51.14]),
        ("crnn/table3", [59.85, 63.21, 58.96, 65.07, 65.07]),
    ):
        experiment = find(table)
        assert [experiment.paper(net, Way("top1_accuracy", 10)) for net in experiment.nets] == want
    for table in ("crnn/table4", "demo/table4", "demo/table4_scenes"):
        experiment = find(table)
        figures = {net.name: experiment.paper(net, Way("top1_error", 10)) for net in experiment.nets}
        assert {name: figures[name] for name in SUBSETS} == TABLE4


def test_parameters_of_the_full_nets_rnn_layers():
    """Two 256 x 256 matrices and a bias a direction; four have 524,288 weights (section 4.2.5)."""
    experiment, counts = find("crnn/table4"), {}
    for net in experiment.nets:
        (rnn,) = [layer for layer in experiment.net_text(net).layer if layer.name == "rnn"]
        blobs = build(rnn, [(1, 256, 6, 6)]).blobs
        counts[net.name] = sum(blob.numel() for blob in blobs)
    one = 2 * 256 * 256 + 256
    assert counts == {
        **dict.fromkeys(SUBSETS, one),
        "horizontal": 2 * one,
        "vertical": 2 * one,
        "all": 4 * one,
    }
    assert counts["all"] == 524_288 + 1_024


def test_the_full_nets_differ_in_directions_alone():
    experiment = find("crnn/table4")
    nets = {net.name: experiment.net_text(net) for net in experiment.nets}
    found = {}
    for name, net in nets.items():
        (rnn,) = [layer.spatial_rnn_param for layer in net.layer if layer.name == "rnn"]
        found[name] = set(rnn.direction)
        rnn.ClearField("direction")
    assert found == {
        **{name: {name} for name in SUBSETS[:4]},
        "horizontal": {"right", "left"},
        "vertical": {"down", "up"},
        "all": {"right", "left", "down", "up"},
    }
    assert all(net == nets["all"] for net in nets.values())


@pytest.mark.parametrize("system", ["crnn", "alexnet", "chrnn"])
@pytest.mark.parametrize(("name", "classes"), [("sun397", 397), ("mit67", 67)])
def test_a_net_for_fine_tuning_differs_in_data_and_classes_alone(system, name, classes):
    base = read_net(SHIPPED / system / "train_val.prototxt").message
    tuned = read_net(SHIPPED / system / name / "train_val.prototxt").message
    for layer, original in zip(tuned.layer, base.layer, strict=True):
        if layer.type == "Data":
            assert layer.data_param.source.startswith(f"data/{name}/")
            layer.data_param.CopyFrom(original.data_param)
        if layer.name == f"fc8_{name}":
            assert layer.inner_product_param.num_output == classes
            assert [param.lr_mult for param in layer.param] == [10, 20]
            layer.name, layer.inner_product_param.num_output = "fc8", 1000
            for param, rate in zip(layer.param, (1, 2), strict=True):
                param.lr_mult = rate
        for blobs in (layer.bottom, layer.top):
            blobs[:] = ["fc8" if blob == f"fc8_{name}" else blob for blob in blobs]
    assert list(tuned.layer) == list(base.layer)


def test_only_the_rnn_and_the_softmax_layer_learn():
    experiment = find("crnn/table3")
    net = experiment.net_text(experiment.net("C-RNN-rnn-softmax"))
    learning = [layer.name for layer in net.layer if any(param.lr_mult for param in layer.param)]
    assert learning == ["rnn", "fc8_mit67"]


def test_list_names_them_all(capsys):
    assert main(["list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(shipped())


def test_the_readings_differ_in_when_the_layer_learns():
    experiment = find("demo/readings")
    rnn = {
        net.name: next(one for one in experiment.net_text(net).layer if one.name == "rnn").spatial_rnn_param
        for net in experiment.nets
    }
    solvers = {net.name: experiment.solver_text(net).window_update for net in experiment.nets}
    assert {name: one.line_break for name, one in rnn.items()} == {
        "B": "carry_value",
        "D": "carry",
        "E": "reset",
        "A-cached": "carry_value",
    }
    assert {name for name, kind in solvers.items() if kind == "sequential"} == {"A-cached"}


def test_no_two_experiments_make_other_data_in_one_place():
    """What the one has made is there for the other."""
    made: dict[str, tuple[str, str]] = {}
    for name in shipped():
        for data in find(name).message.data:
            commands = " && ".join(data.command).replace(" --maps", "")  # which adds a database
            for path in data.makes:
                other, first = made.setdefault(path, (name, commands))
                assert commands == first, f"{name} and {other} make {path}"
