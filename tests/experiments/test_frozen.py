"""Nets whose CNN is frozen train on what it makes, once; they are tested and gone on with whole."""

import json

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.experiments.evaluate import Evaluation, evaluate
from crnn.net import weights
from crnn.net.net import Net
from crnn.tools import experiment as tool

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN not_stage: "features" }
  transform_param { scale: 0.01 } data_param { source: "train" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.01 } data_param { source: "test" batch_size: 4 backend: LMDB } }
layer { name: "features" type: "Data" top: "conv" top: "label" include { phase: TRAIN stage: "features" }
  data_param { source: "features" batch_size: 4 backend: LMDB } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" exclude { stage: "features" }
  convolution_param { num_output: 4 kernel_size: 4 weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
EXPERIMENT = """title: "Tiny" seed: 1 views: 1 measure: "top1_error" solver: "solver.prototxt"
data { command: "extract_features --of train start.caffemodel {here}/net.prototxt conv features all"
  makes: "features" }
net { name: "frozen" net: "net.prototxt" frozen: "conv" weights: "start.caffemodel"
  solver_param { train_state { stage: "features" } } }
net { name: "images" net: "net.prototxt" frozen: "conv" weights: "start.caffemodel" }
net { name: "tuned" net: "net.prototxt" from_net: "frozen" solver_param { max_iter: 2 } }
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of the experiment after its run."""
    folder = tmp_path_factory.mktemp("frozen")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _run(folder)
    return folder


@pytest.fixture
def run(whole, monkeypatch):
    """The folder of the jobs; the current one is that above."""
    monkeypatch.chdir(whole)
    return whole / "out"


def _run(folder) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", 6), ("test", 5)):
        with LmdbWriter(name) as database:
            for i in range(count):
                database.put(b"%08d" % i, encode(rng.integers(0, 256, (1, 4, 4), np.uint8), i % 3))
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(
        'base_lr: 0.05 lr_policy: "fixed" max_iter: 6 snapshot: 6 display: 3\n'
    )
    weights.save(Net(NET, phase="TEST"), "start.caffemodel")
    (folder / "experiment.prototxt").write_text(EXPERIMENT)
    assert tool.main(["run", "experiment.prototxt", "--out", "out"]) == 0


def test_features_and_images_train_the_same_net(run):
    frozen, images = (Evaluation.load(run / f"{name}/seed_1/views_1.npz") for name in ("frozen", "images"))
    np.testing.assert_allclose(frozen.probabilities, images.probabilities, rtol=1e-5)
    own = run / "frozen/seed_1/frozen_iter_6.caffemodel"
    assert Net("net.prototxt", phase="TEST", weights=own).load_report.filled == ["conv"]  # not in its file


def test_a_net_goes_on_from_a_frozen_one_with_the_cnn_that_it_kept(run):
    tuned = Net("net.prototxt", phase="TEST", weights=run / "tuned/seed_1/tuned_iter_2.caffemodel")
    start = Net("net.prototxt", phase="TEST", weights="start.caffemodel")
    moved = (tuned.layer("conv").blobs[0] - start.layer("conv").blobs[0]).abs().max()
    assert 0 < moved < 0.1
    scores = Evaluation.load(run / "tuned/seed_1/views_1.npz").probabilities
    np.testing.assert_allclose(evaluate(tuned).probabilities, scores, rtol=1e-5)
    manifest = json.loads((run / "tuned/seed_1/manifest.json").read_text())
    assert list(manifest["weights"]) == ["start.caffemodel", "frozen/seed_1/frozen_iter_6.caffemodel"]
