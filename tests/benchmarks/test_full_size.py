"""benchmarks/full_size.py: C-RNN's own train_val and solver on a generated database, batches of 2."""

import json
import math

import pytest

from benchmarks import full_size


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    out = tmp_path_factory.mktemp("full_size")
    assert full_size.main(["--device", "cpu", "--batch", "2", "--iterations", "2", "--out", str(out)]) == 0
    (path,) = out.iterdir()
    return json.loads(path.read_text())


def test_trains_the_whole_net_from_a_guess_over_1000_classes(report):
    assert (report["net"], report["batch"], len(report["seconds"])) == ("crnn", 2, 2)
    assert report["loss"] == pytest.approx(math.log(1000), abs=0.5)


def test_memory_holds_the_weights_their_gradients_and_momenta(report):
    weights = 4 * (60_965_224 + 524_288 + 1_024)
    assert 3 * weights < report["peak_bytes"] < 16 * weights


def test_text_says_what_was_measured(report):
    text = full_size.text({**report, "seconds": [3.0, 1.0, 2.0], "rnn_seconds": 0.15, "loss": 6.9}, "cpu")
    assert "first iteration   3.000 s" in text
    assert "median of others  1.500 s, 1.3 images/s" in text
    assert "0.1500 s forward and backward, 10.0% of that" in text
