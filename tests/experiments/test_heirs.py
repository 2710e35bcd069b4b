"""Nets that start from another net of their seed: run, moved, shared, failed and trained anew."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from crnn.experiments.evaluate import Evaluation
from crnn.experiments.run import locked
from crnn.tools import experiment as tool
from tests.experiments.tiny import NET, blobs, write

CHAINED = """
title: "Tiny"  source: "Nobody 2015"
solver: "solver.prototxt"  solver_param { max_iter: 10 }
seed: [1, 2]  views: 1  measure: "top1_error"
net { name: "base" net: "conv.prototxt" }
net { name: "inserted" net: "conv.prototxt" from_net: "base" insert: "conv:horizontal" }
net { name: "again" net: "conv.prototxt" from_net: "base" insert: "conv:both" only_test: true }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heirs")
    write(folder)
    return folder


@pytest.fixture
def chained(inside):
    conv = NET[NET.index('layer { name: "fc"') :]
    conv = (
        NET[: NET.index('layer { name: "rnn"')]
        + (
            'layer { name: "conv" type: "Convolution" bottom: "data" top: "rnn" convolution_param {\n'
            ' num_output: 2 kernel_size: 1 weight_filler { type: "gaussian" std: 1 } } }\n'
            'layer { name: "relu" type: "ReLU" bottom: "rnn" top: "rnn" }\n'
        )
        + conv
    )
    Path("conv.prototxt").write_text(conv)
    Path("chained.prototxt").write_text(CHAINED)


def test_a_net_starts_from_another_net_of_its_seed_with_rnns_inserted(chained):
    assert tool.main(["run", "chained.prototxt", "--out", "chained", "--parallel", "2"]) == 0
    for seed in (1, 2):
        first, second, last = (Path(f"chained/{net}/seed_{seed}") for net in ("base", "inserted", "again"))
        base, bare = (Evaluation.load(path / "views_1.npz") for path in (first, last))
        np.testing.assert_array_equal(base.probabilities, bare.probabilities)  # V = 0
        start = f'weights: "{first}/base_iter_10.caffemodel"'
        assert start in (second / "solver.prototxt").read_text()
        tuned = blobs(second / "inserted_iter_10.caffemodel")
        assert [blob.shape for blob in tuned][:3] == [(2, 1, 1, 1), (2,), (2, 2, 2)]
        assert np.abs(tuned[2]).max() > 0  # V has learned
        manifest = json.loads((second / "manifest.json").read_text())
        assert list(manifest["weights"]) == [f"base/seed_{seed}/base_iter_10.caffemodel"]


def test_an_unfinished_heir_goes_on_where_its_folder_was_moved(chained):
    words = ["run", "chained.prototxt", "--seeds", "1", "--nets", "base,inserted"]
    assert tool.main([*words, "--out", "before"]) == 0
    Path("before/inserted/seed_1/views_1.npz").unlink()
    shutil.move("before", "after")
    assert tool.main([*words, "--out", "after"]) == 0
    assert Path("after/inserted/seed_1/views_1.npz").exists()


def test_what_started_from_a_net_that_was_trained_anew_does_not_count(chained, capsys):
    words = ["--out", "anew", "--seeds", "1", "--nets", "base,inserted"]
    assert tool.main(["run", "chained.prototxt", *words]) == 0
    text = CHAINED.replace(
        'net: "conv.prototxt" }', 'net: "conv.prototxt" solver_param { base_lr: 0.1 } }', 1
    )
    Path("faster.prototxt").write_text(text)
    capsys.readouterr()
    assert tool.main(["run", "faster.prototxt", *words]) == 1
    out, errors = capsys.readouterr()
    assert "inserted, seed 1 failed: anew/inserted/seed_1 was begun with other weights" in errors
    assert "| inserted | 0 |" in out


def test_what_a_net_starts_from_may_be_another_processs(chained, capsys):
    words = ["run", "chained.prototxt", "--out", "busy", "--seeds", "1"]
    Path("busy/base").mkdir(parents=True)
    lock = locked(Path("busy/base/seed_1.lock"))
    assert tool.main(words) == 0
    os.close(lock)
    said = capsys.readouterr().out
    assert "base, seed 1: another process is at it" in said
    assert "inserted, seed 1: it needs base, seed 1, which another process is at" in said


def test_what_a_net_starts_from_may_fail(chained, capsys):
    text = CHAINED.replace(
        'net: "conv.prototxt" }', 'net: "conv.prototxt" solver_param { lr_policy: "no" } }', 1
    )
    Path("first_fails.prototxt").write_text(text)
    assert tool.main(["run", "first_fails.prototxt", "--out", "first_fails", "--seeds", "1"]) == 1
    said = capsys.readouterr().err
    assert "unknown lr_policy 'no'" in said
    assert "inserted, seed 1 failed: it needs base, seed 1, which failed" in said


def test_what_a_net_starts_from_must_be_run_too(chained):
    with pytest.raises(
        ValueError, match="inserted, seed 1 starts from the weights of base, seed 1, which is not"
    ):
        tool.main(["run", "chained.prototxt", "--out", "missing", "--nets", "inserted", "--seeds", "1"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('from_net: "base"', 'from_net: "again"', "'again' is no net that is trained before it: base"),
        ('from_net: "base"', 'from_net: "base" weights: "x"', "weights and svm do not go with from_net"),
        ("conv:horizontal", "conv:diagonal", "unknown 'diagonal'; known: horizontal, vertical, both"),
        ("conv:horizontal", "fc:horizontal", "(InnerProduct) is no Convolution"),
    ],
)
def test_chains_that_cannot_be(chained, old, new, message):
    Path("wrong.prototxt").write_text(CHAINED.replace(old, new, 1))
    with pytest.raises(ValueError, match="net 'inserted': .*" + re.escape(message)):
        tool.find("wrong.prototxt")
