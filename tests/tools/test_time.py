"""`crnn time` and `crnn device_query`: Caffe's lines."""

import re
from types import SimpleNamespace

import pytest

from crnn.__main__ import main


def texts(capsys):
    return [line.split("] ", 1)[1] for line in capsys.readouterr().err.splitlines()]


def test_caffes_lines(logged, capsys):
    assert main(["time", "-model", "logged_net.prototxt", "-iterations", "2"]) == 0
    lines = texts(capsys)
    ms = r"[\d.e+-]+ ms\."
    assert lines[:2] == ["Use CPU.", "Performing Forward"]
    assert re.fullmatch(r"Initial loss: [\d.]+", lines[2])
    assert lines[3:6] == ["Performing Backward", "*** Benchmark begins ***", "Testing for 2 iterations."]
    assert re.fullmatch(rf"Iteration: 2 forward-backward time: {ms}", lines[7])
    assert lines[8] == "Average time per layer: "
    layers = ["data", "conv1", "relu1", "fc", "loss"]
    for i, layer in enumerate(layers):
        assert re.fullmatch(rf"{layer:>10}\tforward: {ms}", lines[9 + 2 * i])
        assert re.fullmatch(rf"{layer:>10}\tbackward: {ms}", lines[10 + 2 * i])
    rest = ["Average Forward pass", "Average Backward pass", "Average Forward-Backward", "Total Time"]
    assert all(re.fullmatch(rf"{words}: {ms}", line) for words, line in zip(rest, lines[19:23], strict=True))
    assert lines[23:] == ["*** Benchmark ends ***"]


def test_the_parts_add_up(logged, capsys):
    assert main(["time", "--model=logged_net.prototxt", "--iterations=1", "--phase", "TEST"]) == 0
    text = "\n".join(texts(capsys))
    assert "  accuracy\tforward" in text
    forward = [float(value) for value in re.findall(r"\tforward: (\S+) ms", text)]
    total = float(re.search(r"Average Forward pass: (\S+) ms", text)[1])
    assert sum(forward) == pytest.approx(total, rel=1e-3)


def test_a_net_without_data_is_fed_zeros(tmp_path, capsys):
    (tmp_path / "n.prototxt").write_text(
        """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 4 dim: 4 } } }
        layer { name: "rnn" type: "SpatialRNN" bottom: "x" top: "y" spatial_rnn_param { num_output: 3 } }"""
    )
    assert main(["time", "-model", str(tmp_path / "n.prototxt"), "-iterations", "1"]) == 0
    assert "Initial loss: 0" in texts(capsys)


def test_no_iterations(capsys):
    assert main(["time", "-model", "x", "-iterations", "0"]) == 1
    assert "-iterations must be at least 1, got 0" in capsys.readouterr().err


def test_no_devices(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["device_query"]) == 0
    assert capsys.readouterr().out == "No cuda device present.\n"


def test_devices(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    found = SimpleNamespace(major=9, minor=0, name="Some GPU", total_memory=10)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: found)
    assert main(["device_query", "-gpu", "1"]) == 0
    assert texts(capsys) == [
        "Querying GPUs 1",
        "Device id:                     1",
        "Major revision number:         9",
        "Minor revision number:         0",
        "Name:                          Some GPU",
        "Total global memory:           10",
    ]
    assert main(["device_query", "--gpu=7"]) == 1
    assert "-gpu 7: no such device; there are 2" in capsys.readouterr().err


def test_a_frozen_net_is_timed_too(tmp_path, capsys):
    (tmp_path / "n.prototxt").write_text(
        """layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 } } }
        layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" param { lr_mult: 0 } param { lr_mult: 0 }
          inner_product_param { num_output: 2 } }"""
    )
    assert main(["time", "-model", str(tmp_path / "n.prototxt"), "-iterations", "1"]) == 0
    assert "        fc\tbackward: " in "\n".join(texts(capsys))
