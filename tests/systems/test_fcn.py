"""The FCNs of Xie 2016, Figures 4 and 7: sizes, channels, and the way from VOC's archives to Table 3."""

import importlib.util
import io
import re
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crnn.__main__ import main
from crnn.experiments.checks import without_data
from crnn.experiments.spec import Way
from crnn.net.net import Net
from crnn.net.weights import load, save, to_message
from crnn.proto.blobs import write_binary
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net
from crnn.tools.experiment import SHIPPED, find

LRNN = SHIPPED / "lrnn"
CLS = (Path(__file__).parents[1] / "data_tools/files/cls.mat").read_bytes()  # an SBD map, 3 x 5
INSERTED = ["fc1", "fc2", "fc4", "fc5", "fc7", "fc8"]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("lrnn_fcn", LRNN / "fcn.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_files_are_the_generators(generator):
    for path, text in generator.files().items():
        assert path.read_text() == text, f"{path} is not current: python {LRNN / 'fcn.py'}"


def narrow(text: str, by: int = 64) -> str:
    """A `by`-th of the channels; the scores of 21 and 10 classes stay."""

    def fewer(match):
        n = int(match[1])
        return f"num_output: {n if n in (21, 10) else max(n // by, 1)}"

    return re.sub(r"num_output: (\d+)", fewer, text)


def built(stride: int) -> Net:
    """FCN-32s, 16s or 8s on an image of 384 x 384, narrow."""
    net = read_net(LRNN / f"voc2012/fcn{stride}s.prototxt").message
    for layer in net.layer:
        if layer.type == "Data":
            layer.type = "Input"
            for shape in ([1, 3, 384, 384], [1, 1, 384, 384]):
                layer.input_param.shape.add(dim=shape)
    return Net(narrow(dump(net)), phase="TEST")


def test_channels_are_those_of_figure_4():
    """fc1 7 x 7 x 512 x n, fc2 1 x 1 x n x n, fc3 1 x 1 x n x 21, fc4-fc9 of 1024 (appendix C: n = 4096)."""
    layers = {
        layer.name: layer.convolution_param
        for layer in read_net(LRNN / "voc2012/fcn8s.prototxt").message.layer
    }
    kernels = {
        name: (layers[name].kernel_size[0], layers[name].num_output) for name in layers if name[:2] == "fc"
    }
    assert kernels == {
        "fc1": (7, 4096),
        "fc2": (1, 4096),
        **dict.fromkeys(("fc4", "fc5", "fc7", "fc8"), (1, 1024)),
        **dict.fromkeys(("fc3", "fc6", "fc9"), (1, 21)),
    }


@pytest.mark.parametrize(("stride", "streams"), [(32, [12]), (16, [12, 24]), (8, [12, 24, 48])])
def test_scores_are_taken_at_12_24_and_48_and_grow_to_384(stride, streams):
    net = built(stride)
    assert [net.shapes[name][2] for name in ("fc3", "fc6", "fc9") if name in net.shapes] == streams
    assert net.shapes["score"] == (1, 21, 384, 384)


def test_growing_is_bilinear():
    """A constant stays one, a ramp stays a ramp, off the border."""
    layer = built(8).layer("score_x8")
    ramp = torch.arange(48.0).repeat(1, 21, 48, 1)
    grown = layer(ramp)[0][0, 3, 100, 16:-16]
    torch.testing.assert_close(grown.diff(), torch.full_like(grown[1:], 1 / 8), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("name", "trained", "inserted", "size"),
    [
        ("lrnn/table3", "FCN-8s-2048", "FCN-8s-LRNN-2048", 384),
        ("demo/segmentation", "FCN-tuned", "FCN-LRNN", 96),
    ],
)
def test_an_inserted_net_starts_as_the_same_function(name, trained, inserted, size, tmp_path):
    """Equal to the bit, with L-RNNs in all six layers; the channels are cut down."""
    experiment, nets = find(name), []
    for one in (trained, inserted):
        text = without_data(experiment.net_text(experiment.net(one)), experiment)
        for shape in (shape for layer in text.layer for shape in layer.dummy_data_param.shape):
            shape.dim[0] = 1
        torch.manual_seed(0)
        nets.append(Net(narrow(dump(text), 4 if size == 96 else 64), phase="TEST"))
    save(nets[0], tmp_path / "fcn.caffemodel")
    report = load(nets[1], tmp_path / "fcn.caffemodel")
    assert report.filled == [f"{layer}_rnn" for layer in INSERTED]
    batch = {"data": torch.randn(1, 3, size, size), "label": torch.zeros(1, 1, size, size)}
    scores = []
    for net in nets:
        net(**batch)
        scores.append(net.blobs["score"])
    assert torch.equal(*scores) and scores[0].std() > 0


def test_the_papers_figures():
    """Xie 2016, Table 3."""
    experiment = find("lrnn/table3")
    figures = {
        net.name: [experiment.paper(net, Way(measure, 1)) for measure in ("pixel_accuracy", "mean_iou")]
        for net in experiment.nets
    }
    assert figures == {
        "FCN-32s-512": [90.4, 61.5],
        "FCN-32s-1024": [90.5, 62.1],
        "FCN-32s-2048": [90.7, 62.7],
        "FCN-32s-4096": [90.7, 62.9],
        "FCN-8s-1024": [91.3, 63.8],
        "FCN-8s-2048": [91.2, 64.1],
        "FCN-8s-4096": [91.3, 64.4],
        "FCN-32s-LRNN-512": [90.8, 62.7],
        "FCN-32s-LRNN-1024": [90.9, 63.4],
        "FCN-32s-LRNN-2048": [91.1, 64.2],
        "FCN-8s-LRNN-2048": [92.6, 69.1],
        "FCN-8s-LRNN-2048-CRF": [None, None],
    }


# ---- from the archives to the table ----


def picture(seed: int, kind: str) -> bytes:
    """A photograph of 3 x 5 pixels, or a palette label map."""
    rng, out = np.random.default_rng(seed), io.BytesIO()
    if kind == "JPEG":
        Image.fromarray(rng.integers(0, 256, (3, 5, 3), np.uint8)).save(out, kind)
    else:
        image = Image.frombytes("P", (5, 3), rng.choice([0, 1, 15, 255], 15).astype(np.uint8).tobytes())
        image.putpalette(rng.integers(0, 256, 768).tolist())
        image.save(out, kind)
    return out.getvalue()


@pytest.fixture
def downloads(tmp_path):
    """VOC's and SBD's archives in their published form, of seven images."""
    voc, sbd = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
    files = {
        f"{voc}/ImageSets/Segmentation/train.txt": b"t1\n",
        f"{voc}/ImageSets/Segmentation/val.txt": b"v1\nv2\n",
    }
    for i, name in enumerate(["t1", "v1", "v2", "s1", "s2"]):
        files[f"{voc}/JPEGImages/{name}.jpg"] = picture(i, "JPEG")
    for i, name in enumerate(["t1", "v1", "v2"]):
        files[f"{voc}/SegmentationClass/{name}.png"] = picture(i, "PNG")
    more = {f"{sbd}/train.txt": b"t1\ns1\n", f"{sbd}/val.txt": b"s2\n"}
    more |= {f"{sbd}/cls/{name}.mat": CLS for name in ("t1", "s1", "s2")}
    folder = tmp_path / "downloads"
    folder.mkdir()
    for name, members in (("VOCtrainval_11-May-2012.tar", files), ("benchmark.tgz", more)):
        with tarfile.open(folder / name, "w:gz" if name.endswith("tgz") else "w") as archive:
            for member, data in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return folder


def test_from_the_archives_to_the_table(downloads, tmp_path, monkeypatch):
    """A 64th of the channels, two iterations, three rows: FCN-8s, with L-RNNs, with the CRF."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LRNN, tmp_path / "lrnn")
    for path in (tmp_path / "lrnn").rglob("*.prototxt"):
        path.write_text(re.sub(r"batch_size: \d+", "batch_size: 1", narrow(path.read_text())))
    path = tmp_path / "lrnn/table3/experiment.prototxt"
    short = "seed: 1\nsolver_param { max_iter: 2 }"
    path.write_text(re.sub(r"^seed: .*", short, path.read_text(), flags=re.M))
    (tmp_path / "data/vgg16").mkdir(parents=True)
    save_base(built(32), "data/vgg16/vgg16_2048.caffemodel")
    nets = "FCN-8s-2048,FCN-8s-LRNN-2048,FCN-8s-LRNN-2048-CRF"
    words = ["experiment", "run", str(path), "--data", str(downloads), "--nets", nets, "--threads", "1"]
    assert main(words) == 0
    report = (tmp_path / "runs/table3/report.md").read_text()
    for net in nets.split(","):
        assert len(re.findall(rf"^\| {net} \| 1 \| \d+\.\d\d \|", report, re.M)) == 2  # IoU, pixel accuracy
    page = (tmp_path / "runs/table3/report.html").read_text()
    assert "Predictions" in page


def save_base(net: Net, path: str) -> None:
    """The weights of VGG-16's convolutions alone."""
    message = to_message(net)
    kept = [layer for layer in message.layer if layer.name.startswith("conv")]
    message.ClearField("layer")
    message.layer.extend(kept)
    write_binary(path, message)
