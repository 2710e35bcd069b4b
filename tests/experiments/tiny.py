"""An experiment that runs in seconds: its texts, its databases, and what its trainings leave."""

import sys

import numpy as np

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto import pb
from crnn.proto.blobs import read_binary, to_array

NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true crop_size: 6 scale: 0.01 }
  data_param { source: "train_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 6 scale: 0.01 }
  data_param { source: "test_lmdb" batch_size: 4 backend: LMDB } }
layer { name: "rnn" type: "SpatialRNN" bottom: "data" top: "rnn"
  spatial_rnn_param { num_output: 2 cell: "tanh" direction: "right" weight_filler { type: "gaussian" std: 1 }
    recurrent_filler { type: "identity" value: 0.1 } } }
layer { name: "drop" type: "Dropout" bottom: "rnn" top: "rnn" }
layer { name: "fc" type: "InnerProduct" bottom: "rnn" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = 'base_lr: 0.01 momentum: 0.9 lr_policy: "fixed" max_iter: 40 snapshot: 10 display: 10\n'
EXPERIMENT = """
title: "Tiny"  source: "Nobody 2015"
solver: "solver.prototxt"
seed: [1, 2]  views: 1  measure: "top1_error"  baseline: "right"
net { name: "right" net: "net.prototxt" }
net { name: "up" net: "net.prototxt" layer { name: "rnn" spatial_rnn_param { direction: "up" } }
  paper { measure: "top1_error" views: 1 value: 40.5 } }
"""
COMMAND = [sys.executable, "-m", "crnn", "experiment", "run", "experiment.prototxt"]


def write(folder) -> None:
    """Databases and texts."""
    rng = np.random.default_rng(0)
    for name, count in (("train_lmdb", 12), ("test_lmdb", 10)):
        with LmdbWriter(folder / name) as database:
            for i in range(count):
                database.put(b"%08d_r" % i, encode(rng.integers(0, 256, (1, 8, 8), np.uint8), i % 3))
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)
    (folder / "experiment.prototxt").write_text(EXPERIMENT)


def blobs(path) -> list[np.ndarray]:
    return [to_array(blob) for layer in read_binary(path, pb.NetParameter).layer for blob in layer.blobs]
