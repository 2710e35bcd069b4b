"""A training goes on without its bad images and says so."""

import io

import numpy as np
import pytest

from crnn.data.datum import encode, encode_file
from crnn.data.lmdb_writer import LmdbWriter
from crnn.solver.events import Note
from crnn.solver.log import GlogLines
from crnn.solver.solver import Solver

NET = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" backend: LMDB batch_size: 4 } transform_param { bad_image: "substitute" } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip" inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Ten records of three classes; the sixth is a JPEG without an end."""
    monkeypatch.chdir(tmp_path)
    with LmdbWriter("db") as db:
        for i in range(10):
            good = encode(np.full((1, 2, 2), i, np.uint8), i % 3)
            db.put(b"%d" % i, good if i != 5 else encode_file(b"\xff\xd8\xff\xda", 2))
    (tmp_path / "net").write_text(NET)


def test_a_bad_image_is_told_when_it_comes_and_all_are_counted_at_the_end(folder):
    notes, log = [], io.StringIO()
    text = (
        'net: "net" base_lr: 0.01 lr_policy: "fixed"\nmax_iter: 6 random_seed: 1 snapshot_after_train: false'
    )
    Solver(text, [notes.append, GlogLines(log)]).solve()
    said = [event for event in notes if isinstance(event, Note) and event.where == "bad_images.py"]
    assert [event.text for event in said] == [
        "substituted by the next good one: db: record b'5' is a truncated JPEG of 4 bytes; convert it again",
        "1 bad images were substituted by the next good one, 2 times in all",
    ]
    assert all(event.shown and event.severity == "W" for event in said)
    assert log.getvalue().count("bad_images.py] ") == 2
