"""CNN-RNN: its nets against a plain numpy transcription of Guo 2018, decoding, the papers' sizes."""

import importlib.util
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from crnn.data.label_tree import parse_tree
from crnn.decode import decode, generator
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import dump, parse

FOLDER = Path(__file__).resolve().parents[2] / "prototxt_like" / "cnn_rnn"
#: Things of one to three levels: paths, an end, padding.
TREE = parse_tree(
    ["all", "  rock", "  animal", "    dog", "      basenji", "      husky", "    cat", "  plant", "    fern"]
)
FEATURE, UNITS, BATCH = 3, 4, 4  # 1 / BATCH is exact


def load_generate():
    spec = importlib.util.spec_from_file_location("cnn_rnn_generate", FOLDER / "generate.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generate()


def small(end: bool = True, deploy: bool = True, batch: int = BATCH, labels: int | None = None):
    """A net on features [N, 3, 1, 1] of the tree, with or without an end; its paths have `labels` labels."""
    data = generate.Data(
        "x", (FEATURE, 1, 1), TREE.inner, TREE.leaves, batch, steps=4 if end else 2, end=int(end)
    )
    text = generate.text("deploy" if deploy else "train", data, "features", generate.Head("rnn", UNITS))
    if not deploy:  # Inputs for the Data layers
        for phase in ("TRAIN", "TEST"):
            for name, shape in (
                ("data", (batch, FEATURE, 1, 1)),
                ("path", (batch, labels or data.steps, 1, 1)),
            ):
                layer = name if phase == "TRAIN" else f"{name}_test"
                start = text.index(f'layer {{ name: "{layer}" type: "Data"')
                stop = text.index("layer {", start + 5)
                dims = " ".join(f"dim: {n}" for n in shape)
                new = (
                    f'layer {{ name: "{layer}" type: "Input" top: "{name}" include {{ phase: {phase} }} '
                    f"input_param {{ shape {{ {dims} }} }} }}\n"
                )
                text = text[:start] + new + text[stop:]
    net = Net(text, phase="TEST" if deploy else "TRAIN")
    torch.manual_seed(11)
    with torch.no_grad():
        for blob in net.parameters():
            blob.normal_(0, 0.6)
    return net.double()


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(BATCH, FEATURE, 1, 1))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def transcription(net, features, paths):
    """Probabilities [T, N, V] by eq. 2-7 and a softmax; step t sees the embedding of label t - 1."""
    embedding = net.layer("embed").blobs[0].detach().numpy()
    W_x, b, W_v, W_h = (blob.detach().numpy() for blob in net.layer("lstm").blobs)
    W_o, b_o = (blob.detach().numpy() for blob in net.layer("scores").blobs)
    N, T = paths.shape
    v = features.reshape(N, -1)
    h, c, out = np.zeros((N, UNITS)), np.zeros((N, UNITS)), []
    for t in range(T):
        x = np.zeros((N, UNITS)) if t == 0 else embedding[np.maximum(paths[:, t - 1], 0)]
        i, f, o, g = np.split(x @ W_x.T + h @ W_h.T + v @ W_v.T + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        scores = h @ W_o.T + b_o
        e = np.exp(scores - scores.max(1, keepdims=True))
        out.append(e / e.sum(1, keepdims=True))
    return np.stack(out)


def as_blob(paths):
    return paths[:, :, None, None].astype(np.float64)


def test_the_net_is_equations_2_to_7(features):
    net, paths = small(), TREE.sequences()[[0, 1, 3, 4]]
    (prob,) = net(data=features, path=as_blob(paths)).values()
    np.testing.assert_allclose(prob.detach().numpy(), transcription(net, features, paths), atol=1e-12)


def test_a_step_sees_the_labels_before_it_alone(features):
    net, paths = small(), TREE.sequences()[[0, 1, 3, 4]]
    first = net(data=features, path=as_blob(paths))["prob"].detach().numpy()
    paths[:, 2:] = 0
    second = net(data=features, path=as_blob(paths))["prob"].detach().numpy()
    np.testing.assert_array_equal(first[:3], second[:3])
    assert not np.allclose(first[3], second[3])


def test_the_loss_is_equation_8(features):
    """Summed over the steps that have a label, divided by N."""
    net, paths = small(deploy=False), TREE.sequences()[[0, 1, 3, 4]]
    net(data=features, path=as_blob(paths))
    p = transcription(net, features, paths)
    want = -sum(np.log(p[t, n, k]) for (n, t), k in np.ndenumerate(paths) if k >= 0) / BATCH
    assert net.loss().item() == pytest.approx(want, rel=1e-8)


def generator_net(kind: str) -> Net:
    """A CNN-based generator on features, 2 coarse and 3 fine labels, with Inputs for its Data layers."""
    data = generate.Data("x", (FEATURE, 1, 1), 2, 3, BATCH)
    text = generate.text("train", data, "features", generate.Head(kind))
    message = parse(text, pb.NetParameter, kind).message
    shapes = {"data": (BATCH, FEATURE, 1, 1), "label": (BATCH,), "path": (BATCH, 2, 1, 1)}
    for layer in message.layer:
        if layer.type == "Data":
            layer.type = "Input"
            for top in layer.top:
                layer.input_param.shape.add(dim=shapes[top])
    net = Net(dump(message), phase="TRAIN")
    torch.manual_seed(5)
    with torch.no_grad():
        for blob in net.parameters():
            blob.normal_(0, 0.6)
    return net.double()


def logs_of(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


@pytest.mark.parametrize("kind", ["coarse-to-fine", "fine-to-coarse", "fine-and-coarse"])
def test_the_loss_of_the_cnn_based_generators_is_equation_1(features, kind):
    """Figure 2's strategies 1 to 3: the second level's scores are made of the first's, or both of v."""
    net, coarse, fine = generator_net(kind), np.array([0, 1, 1, 0]), np.array([2, 0, 1, 2])
    path = np.stack([coarse, 2 + fine], 1)
    net(data=features, label=fine.astype(float), path=as_blob(path))
    first, _, second = kind.partition("-to-")
    levels, v = [first, second] if second else ["coarse", "fine"], features.reshape(BATCH, -1)
    below, scores = v, {}
    for level in levels:
        W, b = (blob.detach().numpy() for blob in net.layer(level).blobs)
        scores[level] = below @ W.T + b
        below = scores[level] if second else v
    logs = {level: logs_of(values) for level, values in scores.items()}
    each = np.arange(BATCH)
    want = -(logs["coarse"][each, coarse] + logs["fine"][each, fine]).sum() / BATCH
    assert net.loss().item() == pytest.approx(want, rel=1e-10)


def test_padding_learns_nothing(features):
    """Rock's path is two labels long: what stands at its third and fourth step has no gradient."""
    net = small(deploy=False)
    net(data=features, path=as_blob(np.repeat(TREE.sequences()[:1], BATCH, 0)))
    net.loss().backward()
    moved = net.layer("embed").blobs[0].grad.abs().sum(1)
    assert np.flatnonzero(moved.numpy()).tolist() == [TREE.path(0)[0]]


def greedy(net, features, steps):
    paths = np.zeros((BATCH, steps), np.int64)
    for t in range(steps):
        paths[:, t] = transcription(net, features, paths)[t].argmax(1)
    return paths


def test_greedy_decoding_feeds_back_the_likeliest_label(features):
    net = small(end=False)
    net(data=features, path=np.zeros((BATCH, 2, 1, 1)))
    np.testing.assert_array_equal(decode(net, generator(net)), greedy(net, features, 2))


def best(net, features, keep, known=()):
    """By trying every path of two labels that `keep` allows."""
    found = []
    for n in range(BATCH):
        scored = {}
        for path in product(range(TREE.inner + TREE.leaves), repeat=2):
            if keep(path) and path[: len(known)] == tuple(k[n] for k in known):
                p = transcription(net, features[n : n + 1], np.array([path]))
                scored[path] = p[0, 0, path[0]] * p[1, 0, path[1]]
        found.append(max(scored, key=scored.get))
    return np.array(found)


def test_a_wide_beam_finds_the_best_of_all_paths(features):
    net = small(end=False)
    net(data=features, path=np.zeros((BATCH, 2, 1, 1)))
    made, V = generator(net), TREE.inner + TREE.leaves
    want = best(net, features, lambda path: True)
    np.testing.assert_array_equal(decode(net, made, beam=V), want)
    assert (want != greedy(net, features, 2)).any()  # else this test shows nothing


def test_only_valid_children(features):
    net = small(end=False)
    follows = TREE.follows[[*range(TREE.inner + TREE.leaves), -1], : TREE.inner + TREE.leaves]
    net(data=features, path=np.zeros((BATCH, 2, 1, 1)))

    def valid(path):
        return follows[-1, path[0]] and follows[path[0], path[1]]

    got = decode(net, generator(net), follows=follows, beam=99)
    np.testing.assert_array_equal(got, best(net, features, valid))


def test_coarse_labels_that_are_given(features):
    net, coarse = small(end=False), np.array([0, 1, 2, 0])
    net(data=features, path=np.zeros((BATCH, 2, 1, 1)))
    got = decode(net, generator(net), known=coarse[:, None])
    np.testing.assert_array_equal(got, best(net, features, lambda path: True, known=(coarse,)))


@pytest.mark.parametrize("beam", [1, 3, 50])
def test_paths_of_the_tree_end(features, beam):
    net = small()
    net(data=features, path=np.zeros((BATCH, 4, 1, 1)))
    got = decode(net, generator(net), follows=TREE.follows, end=TREE.end, beam=beam)
    whole = TREE.sequences().tolist()
    assert all(path in whole for path in got.tolist())
    if beam == 50:
        scores = [[_log(net, features[n : n + 1], np.array(path)) for path in whole] for n in range(BATCH)]
        np.testing.assert_array_equal(got, np.array(whole)[np.argmax(scores, 1)])


def _log(net, feature, path) -> float:
    p = transcription(net, feature, path[None])
    return sum(np.log(p[t, 0, k]) for t, k in enumerate(path) if k >= 0)


def test_a_net_without_an_lstm_makes_no_paths():
    assert (
        generator(Net('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }')) is None
    )


def test_more_labels_than_steps_are_refused(features):
    net = small(end=False)
    net(data=features, path=np.zeros((BATCH, 2, 1, 1)))
    with pytest.raises(ValueError, match="at most 2 labels, got 1 and 3"):
        decode(net, generator(net), known=np.zeros((BATCH, 3), np.int64))


def test_paths_deeper_than_the_net_are_refused_by_name():
    with pytest.raises(ValueError, match=r"'step1' \[5, 1, 1, 1\] and 'step4' \[5, 2, 1, 1\] differ"):
        small(deploy=False, batch=5, labels=5)


#: Learned values of each net without its head's: backbones of Guo 2018.
SIZES = {
    "cifar100/cnn7-fine": 1_010_308,
    "cifar100/cnn7-rnn": 3_606_424,
    "cifar100/wrn-28-10-fine": 36_536_884,  # as Zagoruyko 2016 has it, 36.5 M
    "cifar100/wrn-28-10-rnn": 40_005_704,
    "cifar100/wider-resnet-fine": 45_520_292,
    "cifar100/wider-resnet-rnn": 49_737_144,
    "imagenet2010/vgg16-fine": 135_846_083,
    "imagenet2010/vgg16-rnn": 159_709_074,
    "imagenet2010/features-rnn": 25_448_530,
    "ilsvrc2012/features-rnn": 19_917_860,
}


@pytest.mark.parametrize("name", SIZES)
def test_the_nets_have_the_sizes_of_the_readme(name):
    net = Net(generate.text(f"{name}/deploy", *generate.NETS[name]), phase="TEST")
    assert sum(param.parameter.numel() for param in net.params if param.lr_mult) == SIZES[name]
    assert f"{SIZES[name]:,}" in (FOLDER / "README.md").read_text()


def test_the_files_are_current():
    for path, text in generate.texts().items():
        assert path.read_text() == text, f"{path} is not current: python {FOLDER / 'generate.py'}"
