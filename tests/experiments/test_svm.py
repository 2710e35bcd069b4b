"""Features of a net and a linear SVM on them."""

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.experiments.evaluate import Evaluation
from crnn.experiments.features import batches
from crnn.experiments.svm import Svm
from crnn.net import weights
from crnn.net.net import Net
from crnn.tools import svm as tool

pytest.importorskip("sklearn", reason="runs where scikit-learn is installed (pip install crnn[svm])")

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { crop_size: 4 mirror: true } data_param { source: "train" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 4 } data_param { source: "test" batch_size: 7 backend: LMDB } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param { pool: AVE kernel_size: 4 } }
layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
BRIGHT = 40  # what a class adds to its own channel


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Images whose brightest channel is their class, with a little noise; a net that averages channels."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, count in (("train", 36), ("test", 20)):
        with LmdbWriter(name) as database:
            for i in range(count):
                image = rng.integers(0, 60, (3, 6, 6), np.uint8)
                image[i % 3] += BRIGHT
                database.put(b"%08d" % i, encode(image, i % 3))
    (tmp_path / "net.prototxt").write_text(NET)
    weights.save(Net("net.prototxt", phase="TEST"), "net.caffemodel")
    return tmp_path


def run(*more: str) -> int:
    words = ["--model", "net.prototxt", "--weights", "net.caffemodel", "--blob", "pool", "--save", "out"]
    return tool.main([*words, *more])


def test_separable_features_are_separated(folder, capsys):
    assert run("--views", "1,10", "--folds", "3") == 0
    for views in (1, 10):
        result = Evaluation.load(f"out/views_{views}.npz")
        assert (result.top(1), len(result.labels), result.views) == (1.0, 20, views)
    assert "36 records" in capsys.readouterr().out


def test_features_are_the_blob_of_every_record_and_view(folder):
    net = Net("net.prototxt", phase="TEST")
    found = [features for features, _, _ in batches(net, "pool", 10)]
    assert [part.shape for part in found] == [(10, 7, 3), (10, 7, 3), (10, 6, 3)]
    image = net.layer("data").loader.records(8, 1)[0][0].astype(np.float32)
    np.testing.assert_allclose(found[1][0, 1], image[:, :4, :4].mean((1, 2)), rtol=1e-5)  # top left
    np.testing.assert_allclose(found[1][4, 1], image[:, 1:5, 1:5].mean((1, 2)), rtol=1e-5)  # centre


def test_c_is_chosen_on_the_training_records():
    """Of weights that learn next to nothing and weights that do, the second; of equals the smaller."""
    rng = np.random.default_rng(1)
    labels = np.arange(60) % 2
    x = rng.normal(size=(60, 2)) + 4 * labels[:, None] * [1, 0] + 50
    svm = Svm.train(x.astype(np.float32), labels, [10.0, 1.0, 100.0], 3, 1)
    best = max(svm.accuracies.values())
    assert svm.c == min(c for c, accuracy in svm.accuracies.items() if accuracy == best)
    assert set(svm.accuracies) == {1.0, 10.0, 100.0}


def test_dimensions_count_alike_whatever_their_scale():
    rng = np.random.default_rng(2)
    labels = np.arange(90) % 3
    x = np.eye(3)[labels] + 0.1 * rng.normal(size=(90, 3))
    scaled = x * [1e-4, 1.0, 1e4] + [5, 0, -7]
    first, second = (Svm.train(v, labels, [0.1], 3, 1).scores(v) for v in (x, scaled))
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert (first.argmax(1) == labels).all()


def test_a_class_without_training_records_is_never_chosen():
    x = np.array([[0.0], [1.0]] * 3)
    scores = Svm.train(x, np.array([0, 3] * 3), [1.0], 2, 1).scores(x)
    assert scores.shape == (6, 4)
    assert np.isneginf(scores[:, 1:3]).all() and scores.argmax(1).tolist() == [0, 3] * 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--blob", "fc9"], "has no blob 'fc9'; it has data, label, pool"),
        (["--folds", "20"], "20 training records each, the smallest has 12"),
        (["--views", "5"], "--views are 1 or 10"),
        (["--c", "0"], "must be positive"),
    ],
)
def test_what_cannot_be_done_is_refused(folder, flags, message):
    with pytest.raises(ValueError, match=message):
        run(*flags)
