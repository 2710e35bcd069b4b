"""L-RNN's nets of Xie 2016, Table 1: files, weights, layers, and the way from the archives to a table."""

import importlib.util
import io
import re
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from crnn.__main__ import main
from crnn.net.net import Net
from crnn.proto.text import dump
from crnn.proto.upgrade import read_net
from crnn.tools.experiment import SHIPPED, find

LRNN = SHIPPED / "lrnn"
#: SPEC of the literal Table 1; the paper's own count in thousands, where it differs.
WEIGHTS = {
    "Baseline-CNN-Avg": 1_555_136,
    "Baseline-CNN-Max": 1_555_136,
    "A-Concat-RNN-Avg": 899_776,
    "A-Concat-RNN-Max": 899_776,
    "A-Forward-GRU-Max": 1_675_456,
    "A-Concat-GRU-Max": 1_948_352,
    "A-Sum-GRU-Max": 1_986_752,
    "B-GRU-Max": 2_316_992,
    "B-RNN-Max": 1_268_416,
    "C-GRU-Max": 2_685_632,
    "D-GRU-Max": 3_717_824,
    "E-RNN-Max": 962_752,
    "F-RNN-Max": 1_384_000,
}
#: Layers with a 3x3 kernel or RNNs of a module (two each): the paper's column "# Conv Layers".
CONVOLUTIONS = {
    "Baseline-CNN-Max": 7,
    "A-Concat-RNN-Max": 5,
    "B-RNN-Max": 9,
    "C-GRU-Max": 13,
    "D-GRU-Max": 19,
}


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("lrnn_generate", LRNN / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def built(path: Path, phase: str = "TRAIN") -> Net:
    """The net of a file, on images that the caller gives, two at a time."""
    net = read_net(path).message
    for layer in net.layer:
        if layer.type == "Data":
            layer.type = "Input"
            for shape in ([2, 3, 32, 32], [2]):
                layer.input_param.shape.add(dim=shape)
    return Net(dump(net), phase=phase)


def test_the_files_are_the_generators(generator):
    for path, text in generator.files().items():
        assert path.read_text() == text, f"{path} is not current: python {LRNN / 'generate.py'}"


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_weights_of_the_literal_table_1(name):
    """Without biases, BatchNorm and LayerNorm."""
    count = 0
    for node in built(LRNN / "table2" / f"{name}.prototxt").nodes:
        blobs = node.layer.blobs
        if node.param.type in ("Convolution", "InnerProduct"):
            count += blobs[0].numel()
        elif node.param.type == "SpatialRNN":
            count += blobs[0].numel() + blobs[2].numel()
    assert count == WEIGHTS[name]


def test_the_readme_has_these_weights_beside_the_papers():
    rows = re.findall(
        r"^\| ([\w-]+) \| ([\d,]+) \| ([\d.]+) M \| ([\d.]+) % \|$", (LRNN / "README.md").read_text(), re.M
    )
    assert {name: int(count.replace(",", "")) for name, count, _, _ in rows} == WEIGHTS
    off = {name for name, count, paper, _ in rows if abs(WEIGHTS[name] / 1e6 - float(paper)) > 0.02}
    assert off == {"C-GRU-Max", "D-GRU-Max", "F-RNN-Max"}
    experiment = find("lrnn/table2")
    (way,) = experiment.ways
    assert {name: float(error) for name, _, _, error in rows} == {
        net.name: experiment.paper(net, way) for net in experiment.nets
    }


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_as_many_convolutions_as_table_2_says(name):
    types = [layer.type for layer in read_net(LRNN / "table2" / f"{name}.prototxt").message.layer]
    assert types.count("Convolution") == CONVOLUTIONS[name]


def test_fusion_by_its_equations():
    """Eq. 2 to 4: the module's own map, the sum with its input, both one behind the other."""
    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    for fusion, (channels, last) in {
        "Forward-GRU": (256, "rnn1_columns"),
        "Sum-GRU": (256, "rnn1_sum"),
        "Concat-GRU": (512, "rnn1_concat"),
    }.items():
        net = built(LRNN / "table2" / f"A-{fusion}-Max.prototxt", "TEST")
        net(data=images, label=np.zeros(2))
        assert net.blobs[last].shape == (2, channels, 8, 8)
        module = net.blobs["rnn1_columns"].detach().numpy()
        if fusion == "Sum-GRU":
            matched = net.blobs["rnn1_match"].detach().numpy()
            np.testing.assert_array_equal(net.blobs[last].detach(), matched + module)
        if fusion == "Concat-GRU":
            np.testing.assert_array_equal(net.blobs[last].detach()[:, 256:], module)
            np.testing.assert_array_equal(net.blobs[last].detach()[:, :256], net.blobs["pool2"].detach())


def test_a_module_is_two_bidirectional_rnns_in_cascade():
    net = read_net(LRNN / "table2" / "F-RNN-Max.prototxt").message
    rnns = [layer for layer in net.layer if layer.type == "SpatialRNN"]
    assert len(rnns) == 8
    for rows, columns in zip(rnns[::2], rnns[1::2], strict=True):
        assert list(rows.spatial_rnn_param.direction) == ["right", "left"]
        assert list(columns.spatial_rnn_param.direction) == ["down", "up"]
        assert list(columns.bottom) == list(rows.top)
        for rnn in (rows, columns):
            p = rnn.spatial_rnn_param
            assert (p.line_break, p.cell, p.combine, p.share_input) == ("reset", "ln_relu", "sum", False)


def test_the_narrow_nets_of_the_demo_are_a_quarter_as_wide():
    for path in sorted((SHIPPED / "demo/lrnn").glob("*-Max.prototxt")):
        small, full = read_net(path).message, read_net(LRNN / "table2" / path.name).message
        for a, b in zip(small.layer, full.layer, strict=True):
            assert 4 * a.convolution_param.num_output == b.convolution_param.num_output
            assert 4 * a.spatial_rnn_param.num_output == b.spatial_rnn_param.num_output


# ---- from the archives to the table ----


def shortened(name: str, folder: Path) -> Path:
    """The experiment `name` with its nets and data as they are, for two batches of four images."""
    shutil.copytree(SHIPPED / "lrnn", folder / "lrnn")
    for path in (folder / "lrnn").rglob("*.prototxt"):
        path.write_text(re.sub(r"batch_size: \d+", "batch_size: 4", path.read_text()))
    path = folder / "lrnn" / name / "experiment.prototxt"
    path.write_text(
        re.sub(r"^seed: .*", "seed: 1\nsolver_param { max_iter: 2 }", path.read_text(), flags=re.M)
    )
    return path


@pytest.fixture
def cifar(tmp_path):
    """Both archives in their published form, but with few images."""
    rng = np.random.default_rng(0)

    def rows(n, *classes):
        labels = [rng.integers(0, k, (n, 1)) for k in classes]
        return np.concatenate([*labels, rng.integers(0, 256, (n, 3072))], 1).astype(np.uint8).tobytes()

    ten = {f"cifar-10-batches-bin/data_batch_{i}.bin": rows(2002, 10) for i in range(1, 6)}
    ten["cifar-10-batches-bin/test_batch.bin"] = rows(4, 10)
    ten["cifar-10-batches-bin/batches.meta.txt"] = "".join(f"kind {i}\n" for i in range(10)).encode()
    hundred = {
        f"cifar-100-binary/{part}.bin": rows(n, 20, 100) for part, n in (("train", 10_008), ("test", 4))
    }
    for level, n in (("coarse", 20), ("fine", 100)):
        names = "".join(f"{level} {i}\n" for i in range(n))
        hundred[f"cifar-100-binary/{level}_label_names.txt"] = names.encode()
    (tmp_path / "downloads").mkdir()
    for name, files in (("cifar-10", ten), ("cifar-100", hundred)):
        path = tmp_path / f"downloads/{name}-binary.tar.gz"
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for file, data in files.items():
                info = tarfile.TarInfo(file)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return tmp_path / "downloads"


@pytest.mark.parametrize(
    ("name", "nets"), [("table2", "A-Sum-GRU-Max,E-RNN-Max"), ("cifar100", "A-Concat-RNN-Max")]
)
def test_from_the_archives_to_the_table(name, nets, cifar, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = shortened(name, tmp_path)
    assert main(["experiment", "run", str(path), "--data", str(cifar), "--nets", nets, "--threads", "1"]) == 0
    report = (tmp_path / "runs" / name / "report.md").read_text()
    for net in nets.split(","):
        assert re.search(rf"\| {net} \| 1 \| \d+\.\d\d \|", report)
