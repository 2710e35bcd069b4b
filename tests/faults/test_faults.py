"""`make faults` in short: a few injections of every fault, none of them silent."""

import json
import shutil
import subprocess
import sys

import pytest

from crnn.testing import ROOT
from tests.faults.processes import Ended
from tests.faults.readme import put
from tests.faults.table import HARMLESS, Result, Row, judged

FEW = 2
NAMES = [
    "kill_in_training",
    "kill_at_random",
    "stop_at_random",
    "disk_in_training",
    "kill_in_converter",
    "kill_converter_at_random",
    "disk_in_converter",
    "cut_caffemodel",
    "flip_resume_json",
    "flip_solverstate_h5",
    "cut_lmdb",
    "flip_lmdb",
    "scribble_lmdb",
    "flip_manifest",
    "flip_leveldb",
    "hostile_pickles",
    "image_bombs",
    "hostile_archives",
    "hostile_prototxts",
    "hostile_binaries",
    "hostile_sides",
    "reader_death",
    "surroundings",
]
pytestmark = [
    pytest.mark.skipif(not shutil.which("cc"), reason="needs Linux with a C compiler"),
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux with a C compiler"),
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    for package in ("h5py", "plyvel"):
        pytest.importorskip(package, reason=f"needs {package}: any machine with crnn[hdf5,leveldb]")
    folder = tmp_path_factory.mktemp("results")
    words = ["--times", str(FEW), "--results", str(folder), *(f"--only={name}" for name in NAMES)]
    command = [sys.executable, "-m", "tests.faults", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert "Traceback" not in done.stderr, done.stderr
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_no_fault_is_silent(results, name):
    row = Row(**json.loads((results / f"{name}.json").read_text()))
    assert row.silent == 0, row.notes
    assert row.injected == FEW


def test_a_row_counts_what_became_of_each():
    row = Row("x")
    for result in (judged(True, lost=1), judged(True, lost=0), judged(False, "wrong"), Result(HARMLESS)):
        row.add(result)
    assert str(row) == "| x | 4 | 2 | 1 | 1 | 1 (0.5) | 0 |" and row.notes == ["wrong"]


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("crnn train: x.pt is no state dict", ""),
        ("crnn train: other.pt is no state dict", "refused for another reason"),
        ("crnn train: x.pt holds " + "a" * 10_000, "characters were said"),
        ("Traceback (most recent call last):\nKeyError: 'x.pt'", "exit code 1"),
    ],
)
def test_a_refusal_names_the_hostile_file_in_few_words(tmp_path, said, problem):
    pytest.importorskip("h5py", reason="needs h5py: any machine with crnn[hdf5,leveldb]")
    from tests.faults import hostile

    found = hostile.problem(Ended(code=1, said=said, printed="", calls=0, peak=100), "x.pt", tmp_path, 100)
    assert problem in found and bool(problem) == bool(found)


def test_a_table_takes_its_place_and_no_other(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n")
    put(path, "x", "new \\1")
    put(path, "x", "new \\1")
    assert path.read_text() == "a\n<!-- x -->\nnew \\1\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n"
    with pytest.raises(ValueError, match="no place for 'z'"):
        put(path, "z", "")
