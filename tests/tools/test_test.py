"""`crnn test`: Caffe's lines over some batches."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crnn.net.net import Net
from crnn.testing import golden
from crnn.tools import test as command

MODEL = ["-model", "logged_net.prototxt", "-weights", str(golden("tools/logged_iter_30.caffemodel"))]


def lines(text):
    return re.findall(r"^I\d{4} \S+ +\d+ (caffe\.cpp:\d+)\] (.*)$", text, re.MULTILINE)


def test_caffes_lines(logged, capsys):
    assert command.main([*MODEL, "-iterations=3"]) == 0
    found = lines(capsys.readouterr().err)
    texts = [text for _, text in found]
    assert texts[:2] == ["Use CPU.", "Running for 3 iterations."]
    forms = [re.sub(r"(=|:) [\d.]+", r"\1 #", text) for text in texts[2:]]
    batches = [f"Batch {i}, {name} = #" for i in range(3) for name in ("accuracy", "loss")]
    assert forms == [*batches, "Loss: #", "accuracy = #", "loss = # (* 1 = # loss)"]


def test_scores_are_caffes_at_the_end_of_its_log(logged, capsys):
    """The golden log's last test, of the same snapshot on the same 12 records."""
    command.main([*MODEL, "-iterations", "3"])
    texts = [text for _, text in lines(capsys.readouterr().err)]
    assert texts[-2] == "accuracy = 0.583333"
    assert float(texts[-1].split()[2]) == pytest.approx(36.3902, rel=1e-4)


def test_runs_as_a_program(logged):
    words = [sys.executable, "-m", "crnn", "test", *MODEL, "-iterations", "1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Batch 0, accuracy" in done.stderr


def test_all_records_once(logged, capsys):
    assert command.main([*MODEL, "--all"]) == 0
    records = len(Net("logged_net.prototxt", phase="TEST").layer("data").loader)
    out = capsys.readouterr().out
    assert out.startswith(f"{records} records, 1 view, 3 classes\ntop-1 accuracy ")
    assert "mean class accuracy" in out


@pytest.mark.parametrize("views", [1, 10])
def test_exact_scores_and_confusion(logged, capsys, views):
    """What is printed and written, counted from the saved probabilities."""
    command.main([*MODEL, "--all", f"--views={views}", "--save", "a.npz", "--confusion", "a.csv"])
    out = capsys.readouterr().out
    file = np.load("a.npz")
    labels, predicted = file["labels"], file["probabilities"].argmax(1)
    classes = [predicted[labels == i] == i for i in range(3) if (labels == i).any()]
    assert f"top-1 accuracy {100 * (labels == predicted).mean():.2f} %" in out
    assert f"mean class accuracy {100 * np.mean([right.mean() for right in classes]):.2f} %" in out
    counts = np.zeros((3, 3), int)
    for i, j in zip(labels, predicted, strict=True):
        counts[i, j] += 1
    np.testing.assert_array_equal(np.loadtxt("a.csv", delimiter=",", dtype=int), counts)


@pytest.mark.parametrize("flag", ["save", "confusion"])
def test_what_needs_all_records_says_so(logged, flag):
    with pytest.raises(ValueError, match=f"--{flag} is of all records: give --all"):
        command.main([*MODEL, f"--{flag}", "x"])


def test_ten_views(logged, capsys):
    assert command.main([*MODEL, "--views", "10"]) == 0
    assert "10 views" in capsys.readouterr().out


def test_untrained_layers_are_told(logged, capsys):
    net = Path("logged_net.prototxt")
    net.write_text(net.read_text().replace('name: "fc"', 'name: "fc_new"'))
    command.main([*MODEL, "-iterations=1"])
    assert re.search(r"filled +1 +fc_new\n", capsys.readouterr().err)


def test_a_net_with_debug_info_tells_of_its_blobs(logged, capsys):
    Path("loud.prototxt").write_text("debug_info: true\n" + Path("logged_net.prototxt").read_text())
    said = {}
    for name in ("logged_net", "loud"):
        assert command.main(["-model", f"{name}.prototxt", *MODEL[2:], "-iterations", "2"]) == 0
        said[name] = [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    lines = [text for text in said["loud"] if text.startswith("    [Forward] Layer ")]
    assert [text for text in said["loud"] if text not in lines] == said["logged_net"]
    tops = ("data, top blob data", "fc_fc_0_split, top blob fc_fc_0_split_1", "accuracy, top blob accuracy")
    assert all(sum(f"Layer {top} data: " in text for text in lines) == 2 for top in tops)


def test_no_iterations(logged):
    with pytest.raises(ValueError, match="-iterations must be at least 1, got 0"):
        command.main([*MODEL, "-iterations=0"])
