"""The `crnn` command itself: layers of the user's own by --import."""

import re
import sys

import pytest

from crnn.__main__ import main
from crnn.layers import TYPES

MODULE = """
from crnn.layers import Layer, register


@register("MyDouble")
class Twice(Layer):
    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        self.top_shapes = [bottom_shapes[0]]

    def forward(self, x):
        return (2 * x,)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("crnn.layers.base.TYPES", TYPES.copy())
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "twice_layer.py").write_text(MODULE)
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }\n'
        'layer { name: "t" type: "MyDouble" bottom: "x" top: "y" loss_weight: 1 }\n'
    )
    (tmp_path / "solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 1 snapshot_after_train: false\n'
    )
    yield tmp_path
    sys.modules.pop("twice_layer", None)


@pytest.mark.parametrize("flag", [["--import", "twice_layer"], ["--import=twice_layer"]])
def test_a_module_of_the_users_brings_its_layer(folder, flag):
    assert main([*flag, "train", "--solver", "solver.prototxt"]) == 0


def test_without_it_the_error_says_how(folder, capsys):
    assert main(["train", "--solver", "solver.prototxt"]) == 1
    message = capsys.readouterr().err
    assert "net.prototxt:2:19: layer 't': unknown layer type 'MyDouble'" in message
    assert "one of your own comes with `crnn --import MODULE`" in message


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--import"], "--import needs a module, and a command after it"),
        (["--import", "twice_layer"], "--import needs a module, and a command after it"),
        (["--import", "no_such_layer", "train"], "No module named 'no_such_layer'"),
    ],
)
def test_an_import_that_cannot_be(folder, argv, message, capsys):
    assert main(argv) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, said",
    [
        (MemoryError(), "out of memory"),
        (
            RuntimeError("can't allocate memory: 8 bytes\nat x"),
            "out of memory: can't allocate memory: 8 bytes",
        ),
        (
            RuntimeError("Storage size calculation overflowed with sizes=[9]"),
            r"out of memory: Storage size calculation overflowed with sizes=\[9\]",
        ),
        (RuntimeError("CUDA out of memory. Wanted 2 GiB"), "out of memory: CUDA out of memory. Wanted 2 GiB"),
    ],
)
def test_too_little_memory_is_one_sentence(monkeypatch, capsys, error, said):
    def main_of_the_command(argv):
        raise error

    monkeypatch.setattr("crnn.tools.doctor.main", main_of_the_command)
    assert main(["doctor"]) == 1
    assert re.fullmatch(f"crnn doctor: {said}\n", capsys.readouterr().err)


def test_a_mistake_of_ours_is_no_sentence(monkeypatch):
    def main_of_the_command(argv):
        raise RuntimeError("a mistake")

    monkeypatch.setattr("crnn.tools.doctor.main", main_of_the_command)
    with pytest.raises(RuntimeError, match="a mistake"):
        main(["doctor"])


def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def main_of_the_command(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr("crnn.tools.doctor.main", main_of_the_command)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "crnn doctor: interrupted\n"
