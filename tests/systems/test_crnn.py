"""C-RNN for ILSVRC at full size: AlexNet with one layer more (Zuo 2015, section 4)."""

import re
from pathlib import Path

import pytest
import torch

from crnn.layers.base import build
from crnn.net import weights
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.upgrade import read_net

SYSTEM = Path(__file__).resolve().parents[2] / "prototxt_like" / "crnn"
SUBSETS = re.findall(r"\| `(direction: .*)` \|", (SYSTEM / "README.md").read_text())
ALEXNET = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
LEARNT = [*ALEXNET[:5], "rnn", *ALEXNET[5:]]

pytestmark = pytest.mark.usefixtures("here")


def deploy(system):
    return Net(f"prototxt_like/{system}/deploy.prototxt", phase="TEST")


def set_rnn(layer, w_ih):
    """W_ih = w_ih · I in every direction, W_hh = 0, b = 0."""
    with torch.no_grad():
        for blob in layer.blobs:
            blob.zero_()
        layer.blobs[0].diagonal(dim1=1, dim2=2).fill_(w_ih)


@pytest.mark.parametrize("file", ["train_val", "deploy"])
def test_layers_and_number_of_parameters(file):
    net = Net(f"prototxt_like/crnn/{file}.prototxt", phase="TEST")
    assert [layer.name for layer in net.layers if len(layer.blobs)] == LEARNT
    w_ih, b, w_hh = net.layer("rnn").blobs
    assert w_ih.shape == w_hh.shape == (4, 256, 256) and b.shape == (4, 256)
    assert sum(blob.numel() for blob in net.parameters()) == 60_965_224 + 524_288 + 1_024


def test_all_else_is_alexnet():
    """Name, type, rates and settings of every layer but the two new ones; fc6 reads "rnn" for "pool5"."""
    mine, alexnet = (read_net(f"prototxt_like/{s}/train_val.prototxt").message for s in ("crnn", "alexnet"))
    common = [layer for layer in mine.layer if layer.name not in ("rnn", "drop_rnn")]
    next(layer for layer in common if layer.name == "fc6").bottom[0] = "pool5"
    assert common == list(alexnet.layer)


def test_one_step_of_its_solver_moves_every_blob(solver, moved):
    training = solver("crnn")
    param = training.param
    assert (param.base_lr, param.momentum, param.weight_decay) == pytest.approx((0.01, 0.9, 0.0005))
    assert (param.stepsize, param.max_iter, param.window_update) == (100_000, 450_000, "accumulate")
    assert moved(training) == [f"{layer}[{i}]" for layer in LEARNT for i in range(2 + (layer == "rnn"))]
    assert training.smoothed_loss == pytest.approx(6.91, abs=0.3)  # ln 1000: it knows nothing yet


def test_deploy_gives_probabilities(images, randomise):
    net = randomise(deploy("crnn"))
    with torch.no_grad():
        prob = net(images(10))["prob"]
    assert prob.shape == net.shapes["prob"] == (10, 1000)
    torch.testing.assert_close(prob.sum(1), torch.ones(10))


@pytest.fixture
def alexnet(tmp_path, randomise):
    """(net, path): AlexNet with some weights, and these in a file."""
    net, path = randomise(deploy("alexnet")), tmp_path / "alexnet.caffemodel"
    weights.save(net, path)
    yield net, path
    path.unlink()  # 244 MB, and pytest keeps the folders of several runs


def test_degenerate_point_is_alexnet_to_the_bit(alexnet, images):
    theirs, path = alexnet
    net = deploy("crnn")
    report = weights.load(net, path)
    assert (report.copied, report.filled) == (ALEXNET, ["rnn"])
    assert report.ignored == report.misshapen == []
    set_rnn(net.layer("rnn"), 1 / 4)
    with torch.no_grad():
        want, got = theirs(images(2))["prob"], net(images(2))["prob"]
    assert want.std() > 1e-4, "AlexNet's output must depend on its weights"
    assert got.equal(want)
    assert net.blobs["fc8"].equal(theirs.blobs["fc8"])


def test_the_papers_identity_gives_four_times_the_map():
    """Zuo 2015, section 4.2.1, says W_ih = I; with the sum of eq. 7 that is not AlexNet."""
    layer, x = deploy("crnn").layer("rnn"), torch.rand(2, 256, 6, 6)
    set_rnn(layer, 1)
    assert layer(x)[0].equal(4 * x)


def test_the_readme_lists_the_subsets_of_table_4():
    ways = ["right", "left", "down", "up"]
    want = [[way] for way in ways] + [ways[:2], ways[2:], ways]
    assert [re.findall(r'direction: "(\w+)"', line) for line in SUBSETS] == want


@pytest.mark.parametrize("line", SUBSETS)
def test_a_subset_of_directions_is_one_edit(line, solver, moved):
    """The README's edit of train_val.prototxt; fc6 and fc7 are made small, for time."""
    text, edits = re.subn("direction: .*", line, (SYSTEM / "train_val.prototxt").read_text())
    assert edits == 1
    net, K = read_net(text.replace("num_output: 4096", "num_output: 64")).message, line.count("direction")
    training = solver("crnn", net)
    rnn = training.net.layer("rnn")
    assert [tuple(blob.shape) for blob in rnn.blobs] == [(K, 256, 256), (K, 256), (K, 256, 256)]
    assert moved(training) == [param.name for param in training.params]


@pytest.mark.parametrize("line", SUBSETS)
def test_the_identity_filler_starts_a_subset_at_alexnet(line):
    text = re.sub("direction: .*", line, (SYSTEM / "train_val.prototxt").read_text())
    param = next(layer for layer in read_net(text).message.layer if layer.name == "rnn")
    filler = pb.FillerParameter(type="identity", value=1 / line.count("direction"))
    param.spatial_rnn_param.weight_filler.CopyFrom(filler)
    x = torch.rand(2, 256, 6, 6)
    assert build(param, [x.shape])(x)[0].equal(x)
