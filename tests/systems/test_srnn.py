"""SRNN (Zhang 2018) at full size, ResNet-18 over 224 and 448 pixels; its experiment; any number of scales."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.experiments.checks import without_data
from crnn.experiments.spec import Way
from crnn.net import torch_weights, weights
from crnn.net.anytime import answers_of
from crnn.net.net import Net
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net
from crnn.tools import experiment as tool
from crnn.tools.experiment import SHIPPED, find

FOLDER = Path(__file__).resolve().parents[2] / "prototxt_like" / "srnn"
RESNET, FC = 11_689_512, 512 * 1000 + 1000


def generate():
    """prototxt_like/srnn/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("srnn_generate", FOLDER / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(experiment, name: str, side: int | None = None) -> Net:
    """A net of an experiment for TEST, its data of one image; at full size, or on side x side images."""
    text = without_data(experiment.net_text(experiment.net(name)), experiment)
    for layer in text.layer:
        for shape in layer.dummy_data_param.shape:
            shape.dim[0] = 1
            if side and len(shape.dim) == 4 and shape.dim[1] == 3:
                shape.dim[2] = shape.dim[3] = side
        if side and layer.type == "ImagePyramid":
            scales = list(layer.image_pyramid_param.scale)
            layer.image_pyramid_param.scale[:] = [side * scale // 448 for scale in scales]
    return Net(dump(text), phase="TEST")


def learnt(net: Net) -> int:
    return sum(param.parameter.numel() for param in net.params if param.owner.type != "BatchNorm")


def test_the_nets_are_what_generate_writes(tmp_path):
    module = generate()
    module.HERE, module.DEMO = tmp_path / "srnn", tmp_path / "demo"
    module.HERE.mkdir()
    module.main([])
    for written, shipped in ((module.HERE, FOLDER), (module.DEMO, FOLDER.parent / "demo" / "srnn")):
        for path in written.glob("*.prototxt"):
            assert path.read_text() == (shipped / path.name).read_text(), f"{path.name}: run generate.py"


@pytest.mark.parametrize(
    ("row", "count"),
    [
        ("224", RESNET),
        ("448", RESNET),
        ("ensemble-prob", RESNET),
        ("vanilla", RESNET + 512**2),
        ("half-GRU", RESNET + 3 * 512**2),
    ],
)
def test_the_scales_share_every_parameter(row, count):
    assert learnt(built(find("srnn/table1"), row, side=64)) == count
    if row in ("vanilla", "half-GRU"):
        assert f"{count:,}" in (FOLDER / "README.md").read_text()


def test_what_each_answer_of_the_full_net_takes():
    """ResNet-18 takes 1.81 billion multiply-adds for 224 x 224 (He 2016), four times that for 448 x 448."""
    first, last = answers_of(built(find("srnn/table1"), "vanilla"))
    (alone,) = answers_of(built(find("srnn/table1"), "448"))
    convolutions = first.multiply_adds - 512**2 - 512_000
    assert round(convolutions / 1e9, 2) == 1.81
    assert last.multiply_adds == 5 * convolutions + 2 * 512**2 + 512_000
    assert alone.multiply_adds == 4 * convolutions + 512_000


def test_the_papers_figures():
    """Zhang 2018, Table 1."""
    table = find("srnn/table1")
    figures = {net.name: table.paper(net, Way("top1_error", 1)) for net in table.nets}
    assert figures == {
        "224": 30.36,
        "448": 31.23,
        "ensemble-prob": 29.08,
        "ensemble-logit": 28.26,
        "logits-trained": None,
        "vanilla": 26.56,
        "half-GRU": 26.19,
    }


def random_state(net: Net) -> dict[str, torch.Tensor]:
    """A state dict as torchvision's for a net's layers, under which numbers keep their size."""
    state = {}
    for layer in net.layers:
        if "/" in layer.name:
            continue
        module = layer.name.removesuffix(".scale")
        for blob, entry in zip(layer.blobs, torch_weights.ENTRIES.get(layer.type, ()), strict=False):
            if entry and layer.type != "ScaleRNN":
                one = entry == "running_var" or (layer.type == "Scale" and entry == "weight")
                spread = (2 / max(1, blob[0].numel())) ** 0.5 if blob.dim() > 1 else 0.1
                state[f"{module}.{entry}"] = (
                    torch.ones(blob.shape) if one else spread * torch.randn(blob.shape)
                )
    return state


@pytest.fixture
def rows(tmp_path):
    """rows(name): a net of Table 1 on 64 x 64 images with one random state dict."""
    table = find("srnn/table1")
    torch.manual_seed(0)
    torch.save(random_state(built(table, "224", side=64)), tmp_path / "w.pth")

    def make(name):
        net = built(table, name, side=64)
        weights.load(net, tmp_path / "w.pth")
        return net

    return make


def scores(net: Net, images, blob="fc"):
    with torch.no_grad():
        net(data=images, label=torch.zeros(len(images)))
        return net.blobs[blob]


def test_with_u_the_identity_srnn_adds_the_logits_of_the_scales(rows):
    """SPEC 7, Zhang 2018, section 3.1: F(h_n) = Σ F(x_s) - (n - 1) · bias, at the start of the training."""
    images, srnn = 50 * torch.randn(2, 3, 64, 64), rows("vanilla")
    total, after_one = scores(srnn, images), srnn.blobs["fc_1"]
    each = [scores(rows(name), images) for name in ("224", "448")]
    torch.testing.assert_close(total, sum(each) - srnn.layer("fc").blobs[1].detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after_one, each[0], rtol=1e-4, atol=1e-4)


def test_ensembles_average_scores_or_probabilities(rows):
    images = 50 * torch.randn(2, 3, 64, 64)
    logit, prob = rows("ensemble-logit"), rows("ensemble-prob")
    mean = scores(logit, images, "mean")
    each = [logit.blobs[name] for name in ("fc", "scale2/fc")]
    torch.testing.assert_close(mean, sum(each) / 2)
    got = scores(prob, images, "scores").softmax(1)
    torch.testing.assert_close(got, sum(one.softmax(1) for one in each) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("folder", ["srnn", "demo/srnn"])
def test_an_ensemble_of_probabilities_is_scored_by_their_mean(folder):
    from crnn.experiments.evaluate import score_blob

    experiment = find("srnn/table1" if folder == "srnn" else folder)
    name = next(net for net in experiment.nets if net.name.startswith("ensemble-prob"))
    net = Net(dump(without_data(experiment.net_text(name), experiment)), phase="TEST")
    assert score_blob(net) == ("scores", False)


def test_images_of_different_sizes_in_a_batch_are_answered_as_alone(tmp_path):
    """The first has both scales; the others only the first, and their last state is their first."""
    text = (
        (FOLDER / "deploy_sizes.prototxt").read_text().replace("scale: 224 scale: 448", "scale: 32 scale: 64")
    )
    net, batch, sizes = Net(text, phase="TEST"), torch.zeros(3, 3, 80, 70), [(64, 70), (40, 32), (80, 33)]
    torch.manual_seed(0)
    torch.save(random_state(net), tmp_path / "w.pth")
    weights.load(net, tmp_path / "w.pth")
    for image, (h, w) in zip(batch, sizes, strict=True):
        image[:, :h, :w] = 50 * torch.randn(3, h, w)
    with torch.no_grad():
        net(data=batch, sizes=torch.tensor(sizes).float())
        first, last = net.blobs["fc_1"], net.blobs["fc"]
        torch.testing.assert_close(first[1:], last[1:])
        assert not torch.allclose(first[0], last[0])
        for i, (h, w) in enumerate(sizes):
            net(data=batch[i : i + 1, :, :h, :w], sizes=torch.tensor([[h, w]]).float())
            torch.testing.assert_close(net.blobs["fc"][0], last[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sides", [("32",), ("32", "48", "64", "96")])
def test_any_number_of_scales(tmp_path, sides):
    generate().main([str(tmp_path / "net.prototxt"), *sides])
    text = read_net(tmp_path / "net.prototxt").message
    layers = [layer for layer in text.layer if layer.type not in ("Data", "Accuracy", "SoftmaxWithLoss")]
    head = 'layer { name: "x" type: "Input" top: "data" input_param { shape { dim: [1, 3, 96, 96] } } }\n'
    del text.layer[:]
    text.layer.extend(layers)
    net = Net(head + dump(text), phase="TEST")
    assert len(net.layer("srnn").top_shapes) == len(sides)
    assert learnt(net) == RESNET + 512**2


def test_a_row_of_table_1_runs_from_its_databases_and_the_published_file(tmp_path, monkeypatch, capsys):
    """As `crnn experiment run srnn/table1`, on two images of 64 x 64, one iteration."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SHIPPED / "srnn", "srnn")
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        with LmdbWriter(Path("data/ilsvrc2012-512", f"{part}_lmdb")) as database:
            for label in (3, 997):
                database.put(b"%08d" % label, encode(rng.integers(0, 256, (3, 72, 72), np.uint8), label))
    Path("data/backbones").mkdir()
    torch.save(random_state(built(find("srnn/table1"), "224", 64)), "data/backbones/resnet18-f37072fd.pth")
    for path in Path("srnn").glob("*.prototxt"):
        text = (
            path.read_text()
            .replace("crop_size: 448", "crop_size: 64")
            .replace("batch_size: 256", "batch_size: 2")
        )
        path.write_text(
            text.replace("scale: 224 scale: 448", "scale: 32 scale: 64").replace("scale: 224", "scale: 32")
        )
    file = Path("srnn/table1/experiment.prototxt")
    file.write_text(
        file.read_text().replace(
            "seed: [1, 2, 3]", "seed: 1 solver_param { max_iter: 1 display: 1 test_initialization: false }"
        )
    )
    words = ["run", str(file), "--out", "out", "--nets", "half-GRU"]
    assert tool.main(words) == 0
    report = Path("out/report.md").read_text()
    assert "1 of 7 trainings and tests are done." in report
    assert [
        line.split("|")[2].strip() for line in report.splitlines() if line.startswith("| half-GRU | fc")
    ] == [
        "fc_1",
        "fc",
    ]
    assert f"| half-GRU | {RESNET + 3 * 512**2 + 9_620:,} |" in report and "26.19" in report
