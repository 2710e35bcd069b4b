"""`crnn doctor`: versions, backends with their cures, problems and the exit code."""

import os
import re
import subprocess
import sys
from importlib.metadata import requires

import pytest

import crnn
from crnn.__main__ import main
from crnn.ops import backend
from crnn.testing import ROOT
from crnn.tools import doctor


def without_extension(*words, **environment):
    """`crnn WORDS` in a process that finds no compiled kernels, as in a pure-Python installation."""
    code = "import sys; sys.modules['crnn._C'] = None; from crnn.__main__ import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_says_what_is_installed_and_where(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"crnn {crnn.__version__} in {ROOT / 'crnn'}\nPython {sys.version.split()[0]}")
    for name in ("torch", "numpy", "protobuf", "lmdb", "opencv", "safetensors", "tqdm", "matplotlib"):
        assert f"\n  {name}" in text
    assert "\n  reference  usable\n" in text and "\ncompiler\n" in text


def test_brief_is_one_line(capsys):
    assert main(["doctor", "--brief"]) == 0
    line, rest = capsys.readouterr().out.split("\n", 1)
    assert line.startswith(f"crnn {crnn.__version__}, torch ") and "CPU tensors run on" in line and not rest


def test_a_pure_installation_works_and_says_how_to_get_the_kernels():
    told = without_extension("doctor")
    assert told.returncode == 0, told.stderr
    assert "  cpu        not usable: it was not built; where torch and a C++ compiler are" in told.stdout
    assert "pip install --no-build-isolation" in told.stdout
    assert told.stdout.endswith("CPU tensors run on reference, CUDA tensors on reference\n")


def test_a_forced_backend_that_is_not_usable_is_exit_code_1():
    told = without_extension("doctor", "--brief", CRNN_BACKEND="cpu")
    assert told.returncode == 1
    assert "CRNN_BACKEND=cpu cannot be used: it was not built" in told.stdout


def test_an_unknown_forced_backend_is_exit_code_1(monkeypatch, capsys):
    monkeypatch.setenv("CRNN_BACKEND", "fpga")
    assert main(["doctor"]) == 1
    assert "PROBLEM: CRNN_BACKEND=fpga cannot be used: there is none of that name" in capsys.readouterr().out


def test_a_missing_requirement_is_exit_code_1_and_names_its_cure(monkeypatch, capsys):
    found = doctor.importable
    monkeypatch.setattr(doctor, "importable", lambda module: module != "cv2" and found(module))
    assert main(["doctor"]) == 1
    assert "PROBLEM: opencv-python-headless is missing: pip install opencv" in capsys.readouterr().out


def test_a_missing_option_is_no_problem(monkeypatch, capsys):
    found = doctor.importable
    monkeypatch.setattr(doctor, "importable", lambda module: module != "matplotlib" and found(module))
    assert main(["doctor"]) == 0
    assert 'matplotlib is not installed (optional, for the HTML report): pip install "crnn[report]"' in (
        capsys.readouterr().out
    )


def test_names_the_compiler_or_its_lack(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert doctor.compiler().startswith(
        "no C++ compiler (no-such-compiler) on the path; Debian: apt install g++"
    )


@pytest.mark.parametrize("name", backend.NAMES)
def test_every_backend_has_a_line(name, capsys):
    main(["doctor"])
    assert f"\n  {name} " in capsys.readouterr().out


def test_knows_every_requirement_of_the_package():
    required = {re.match(r"[\w-]+", line)[0] for line in requires("crnn") if "extra ==" not in line}
    assert {names[0] for names in doctor.REQUIRED.values()} == required
