"""Small databases, and nets that classify their records."""

import numpy as np
import pytest
import torch

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.net.net import Net

NET = """
layer {{ name: "data" type: "Data" top: "data" top: "label"
  transform_param {{ crop_size: 4 scale: 0.01 }}
  data_param {{ source: "{source}" batch_size: {batch} backend: LMDB }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param {{ num_output: 3 weight_filler {{ type: "gaussian" std: 1 }} }} }}
{end}
"""
ENDS = {
    "": "",
    "loss": """
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
""",
    **{
        f"top {k}": f"""
layer {{ name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
  accuracy_param {{ top_k: {k} }} }}"""
        for k in (1, 2)
    },
    "softmax": 'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }',
    "softmax of maps": 'layer { name: "prob" type: "Softmax" bottom: "data" top: "prob" }',
}


@pytest.fixture
def records(tmp_path):
    """Writes records [2, 6, 7] with the given labels; returns their images and the folder."""

    def write(labels):
        images = np.random.default_rng(0).integers(0, 256, (len(labels), 2, 6, 7), np.uint8)
        with LmdbWriter(tmp_path / "db") as database:
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                database.put(b"%08d_r" % i, encode(image, label))
        return images, tmp_path / "db"

    return write


@pytest.fixture
def inside(folder, monkeypatch):
    """The folder that the test's module makes, worked in."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def make_net():
    """A net with fixed random weights on a database; its threads end with the test."""
    made = []

    def make(source, end="loss", batch=5, phase="TEST"):
        torch.manual_seed(0)
        made.append(Net(NET.format(source=source, batch=batch, end=ENDS[end]), phase=phase))
        return made[-1]

    yield make
    for net in made:
        net.layers[0].loader.close()
