"""One script under the real pycaffe and under ours: all that it sees is the same."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
ORACLE = HERE.parents[1] / "build/oracle/bin/python"


def run(command, folder):
    folder.mkdir()
    environment = {**os.environ, "GLOG_minloglevel": "3"}
    subprocess.run([*command, HERE / "script.py", "seen.npz"], cwd=folder, env=environment, check=True)
    return np.load(folder / "seen.npz")


@pytest.mark.skipif(not ORACLE.exists(), reason="runs where `make oracle` has built the real Caffe")
def test_a_script_sees_the_same_under_the_real_caffe(tmp_path):
    want = run([ORACLE], tmp_path / "caffe")
    got = run([sys.executable, "-m", "crnn.pycaffe"], tmp_path / "crnn")
    assert sorted(got) == sorted(want)
    for name in want:
        if name.endswith("/words"):
            assert str(got[name]) == str(want[name]), name
            continue
        assert got[name].shape == want[name].shape, name
        error = np.linalg.norm(got[name] - want[name]) / max(np.linalg.norm(want[name]), 1e-9)
        assert error <= 3e-6, f"{name}: {error:.1e}"
