"""IoU and its kin against counts by hand, and a net with label maps tested on every pixel once."""

import numpy as np
import pytest
import torch

from crnn.__main__ import main
from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.experiments import segment
from crnn.experiments.evaluate import Evaluation, evaluate
from crnn.experiments.measures import MEASURES, load, score
from crnn.experiments.segment import Segmentation
from crnn.net.net import Net
from crnn.net.weights import save

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ {transform} }}
  data_param {{ source: "images" label_source: "maps" batch_size: 3 backend: LMDB }} }}
layer {{ name: "score" type: "Convolution" bottom: "data" top: "score" {score}
  convolution_param {{ num_output: 4 kernel_size: 1 bias_term: false }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss"
  loss_param {{ ignore_label: 255 }} }}
"""


@pytest.fixture
def counted():
    """Two images of 2 x 3 pixels in 4 classes. By hand, rows truth, columns answer, without the two of 255:

    0: 3 0 1 0     1: 1 2 0 0     2: 1 0 2 0     3: nothing is of class 3, nothing taken for it
    """
    truth = [[[0, 0, 0], [1, 1, 255]], [[0, 1, 2], [2, 2, 255]]]
    predicted = [[[0, 0, 2], [1, 0, 3]], [[0, 1, 2], [0, 2, 1]]]
    return Segmentation(np.array(predicted, "u1"), np.array(truth, "u1"), np.array(["a", "b"]), 4)


def test_the_confusion_by_hand(counted):
    assert counted.confusion.tolist() == [[3, 0, 1, 0], [1, 2, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    assert counted.confusion_of(0).tolist() == [[2, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_intersection_over_union_by_hand(counted):
    """Class 0: 3 right of 4 that are, and 2 more taken for it; a class that is nowhere does not count."""
    np.testing.assert_array_equal(counted.iou(), [3 / 6, 2 / 3, 2 / 4, np.nan])
    assert counted.mean_iou == pytest.approx((3 / 6 + 2 / 3 + 2 / 4) / 3, rel=1e-12)


def test_accuracies_by_hand(counted):
    assert counted.pixel_accuracy == pytest.approx(7 / 10, rel=1e-12)
    np.testing.assert_array_equal(counted.per_class(), [3 / 4, 2 / 3, 2 / 3, np.nan])
    assert counted.mean_class_accuracy == pytest.approx((3 / 4 + 2 / 3 + 2 / 3) / 3, rel=1e-12)


def test_measures_are_in_percent_and_of_their_kind(counted):
    assert score(counted, "pixel_accuracy") == pytest.approx(70)
    classes = Evaluation(np.eye(2, dtype="f4"), np.array([0, 1]), np.array(["a", "b"]))
    assert score(classes, "top1_error") == 0
    with pytest.raises(
        ValueError, match="top1_error is of a label an image, the net was tested on label maps"
    ):
        score(counted, "top1_error")
    with pytest.raises(ValueError, match="mean_iou is of label maps, the net was tested on a label an image"):
        score(classes, "mean_iou")
    assert all(one.title for one in MEASURES.values())


def test_a_file_gives_back_what_was_saved(counted, tmp_path):
    counted.save(tmp_path / "a.npz")
    loaded = load(tmp_path / "a.npz")
    assert isinstance(loaded, Segmentation) and loaded.classes == 4
    np.testing.assert_array_equal(loaded.confusion, counted.confusion)
    assert loaded.keys.tolist() == ["a", "b"]
    classes = Evaluation(np.eye(2, dtype="f4"), np.array([0, 1]), np.array(["a", "b"]))
    classes.save(tmp_path / "b.npz")
    assert isinstance(load(tmp_path / "b.npz"), Evaluation)
    (tmp_path / "c.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"c.npz holds no evaluation .*: remove it and test again"):
        load(tmp_path / "c.npz")


# ---- a net ----


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """Seven images [4, 6, 5] and their maps: the class of a pixel is its brightest channel, or 255."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (7, 4, 6, 5), np.uint8)
    labels = images.argmax(1).astype(np.uint8)
    labels[:, 0, :3] = 255
    with LmdbWriter("images") as pictures, LmdbWriter("maps") as truth:
        for i in range(7):
            pictures.put(b"%08d" % i, encode(images[i], 0))
            truth.put(b"%08d" % i, encode(labels[i, None], 0))
    return images, labels


@pytest.fixture
def net():
    made = []

    def make(transform="", score=""):
        made.append(Net(NET.format(transform=transform, score=score), phase="TEST"))
        with torch.no_grad():
            made[-1].layer("score").blobs[0].copy_(torch.eye(4)[..., None, None])
        return made[-1]

    yield make
    for one in made:
        one.layers[0].loader.close()


def test_every_pixel_counts_once(maps, net):
    """Seven images in batches of three, by a net that knows the answer; then one that takes 0 for 1."""
    told, one = [], net()
    result = segment.segment(one, progress=lambda *counts: told.append(counts))
    assert told == [(3, 7), (6, 7), (7, 7)]
    assert result.confusion.sum() == 7 * (30 - 3) and result.mean_iou == 1
    assert result.keys.tolist() == [f"{i:08d}" for i in range(7)]
    with torch.no_grad():
        one.layer("score").blobs[0][[0, 1]] = one.layer("score").blobs[0][[1, 0]]
    swapped = segment.segment(one)
    np.testing.assert_array_equal(swapped.confusion[0, 1], result.confusion[0, 0])
    assert swapped.iou()[:2].tolist() == [0, 0] and swapped.iou()[2:].tolist() == [1, 1]


def test_the_centre_of_images_and_maps(maps, net):
    images, labels = maps
    result = segment.segment(net("crop_size: 4"))
    np.testing.assert_array_equal(result.truth, labels[:, 1:5, :4])
    np.testing.assert_array_equal(result.predicted, images.argmax(1)[:, 1:5, :4])


def test_the_loss_leaves_out_255(maps, net):
    one = net("scale: 0.01")
    images, labels = maps
    loss = one()["loss"]
    scores = torch.from_numpy(images[:3] * np.float32(0.01)).log_softmax(1)
    want = torch.nn.functional.nll_loss(scores, torch.from_numpy(labels[:3]).long(), ignore_index=255)
    torch.testing.assert_close(loss, want)


def test_what_cannot_be_scored(maps, net, tmp_path):
    with pytest.raises(ValueError, match="not one score a class"):
        evaluate(net())
    small = NET.replace("kernel_size: 1", "kernel_size: 1 stride: 2").replace('layer {{ name: "loss', "#")
    small = small[: small.index("#")] + 'layer {{ name: "p" type: "Softmax" bottom: "score" top: "p" }}'
    one = Net(small.format(transform="", score=""), phase="TEST")
    with pytest.raises(ValueError, match=r"blob 'p' of net '' is \[3, 4, 3, 3\], its images \[4, 6, 5\]"):
        segment.segment(one)
    one.layers[0].loader.close()
    with LmdbWriter("worse") as truth:
        for i in range(7):
            truth.put(b"%08d" % i, encode(np.full((1, 6, 5), 4, np.uint8), 0))
    worse = Net(NET.replace('"maps"', '"worse"').format(transform="", score=""), phase="TEST")
    with pytest.raises(ValueError, match="'00000000' has labels that are no class: the net has 0 to 3"):
        segment.segment(worse)
    worse.layers[0].loader.close()


def test_the_command_prints_the_measures_and_a_line_a_class(maps, net, tmp_path, capsys):
    (tmp_path / "net.prototxt").write_text(NET.format(transform="", score=""))
    save(net(), "net.caffemodel")
    (tmp_path / "names").write_text("sea\nland\nair\nfire\n")
    words = ["test", "-model", "net.prototxt", "-weights", "net.caffemodel", "--all"]
    assert main([*words, "--labels", "names", "--save", "a.npz", "--confusion", "a.csv"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:4] == [
        "7 records, 189 pixels, 4 classes",
        "mean IoU 100.00 %",
        "pixel accuracy 100.00 %",
        "mean class accuracy 100.00 %",
    ]
    assert [line.split()[0] for line in out[4:]] == ["class", "sea", "land", "air", "fire"]
    assert out[5].split()[1:5] == ["100.00", "%", "100.00", "%"]
    assert np.loadtxt("a.csv", delimiter=",").sum() == 189
    assert main([*words, "--views", "10"]) == 1
    assert "label maps are tested with 1 view" in capsys.readouterr().err
    assert main([*words, "--crf", "iteration: 3"]) == 1
    assert "--crf:1:1" in capsys.readouterr().err
    assert main([*words, "--crf", "iterations: 2"]) == 0
