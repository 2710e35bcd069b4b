"""benchmarks/gpu.py: the budget, what happens when a part fails or takes too long, and no GPU."""

import fcntl
import io
import os
import signal
import subprocess
import sys

import pytest
import torch

from benchmarks import gpu
from crnn.testing import ROOT


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def part(name, share, code, seen=None):
    """A part that runs `code`; appends the seconds it is given to `seen`."""

    def command(seconds):
        if seen is not None:
            seen.append(seconds)
        return program(code)

    return gpu.Part(name, share, command)


def test_a_part_gets_its_share_and_what_was_left_over():
    """Of 100 s: a quarter; then nearly half of the whole rest; then all of it."""
    seen, log = [], io.StringIO()
    chosen = [part("a", 1, "", seen), part("b", 1, "", seen), part("c", 2, "", seen)]
    outcomes = gpu.run(chosen, 100, log)
    assert [o.status for o in outcomes] == ["passed"] * 3
    assert seen[0] == pytest.approx(25, abs=0.1)
    assert 33 - 5 < seen[1] <= 100 / 3 and 100 - 10 < seen[2] <= 100


def test_a_part_that_fails_does_not_stop_the_next():
    log = io.StringIO()
    outcomes = gpu.run([part("bad", 1, "exit(3)"), part("good", 1, "print('here')")], 60, log)
    assert [(o.name, o.status) for o in outcomes] == [("bad", "failed"), ("good", "passed")]
    assert outcomes[0].detail == "exit status 3"
    assert "\nhere\n" in log.getvalue()
    assert gpu.summary(outcomes).endswith("NOT PASSED: bad")
    assert gpu.summary(outcomes[1:]).endswith("all parts passed")


def test_a_part_that_takes_too_long_is_asked_to_end_and_keeps_what_it_says():
    code = """
import signal
try:
    print("waiting", flush=True)
    signal.pause()
except KeyboardInterrupt:
    print("kept")
"""
    log = io.StringIO()
    (outcome,) = gpu.run([part("slow", 1, code)], 2, log)
    assert outcome.status == "cut off" and "did not fit into 2 s" in outcome.detail
    assert "waiting\nkept\n" in log.getvalue()


def test_a_part_that_does_not_listen_is_ended_with_its_children(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "GRACE", 0.2)
    held = tmp_path / "held"
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pause()"
    child = f"import fcntl; f = open({str(held)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); {deaf}"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]); {deaf}"
    (outcome,) = gpu.run([part("deaf", 1, code)], 3, io.StringIO())
    assert outcome.status == "cut off"
    with open(held) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits for as long as the child lives


def test_a_part_that_cannot_run_says_why():
    outcomes = gpu.run([gpu.Part("absent", 1, lambda seconds: "no such tool here")], 10, io.StringIO())
    assert (outcomes[0].status, outcomes[0].detail) == ("not run", "no such tool here")


def test_without_time_nothing_is_begun():
    outcomes = gpu.run([part("late", 1, "print('ran')")], 0.5, io.StringIO())
    assert outcomes[0].detail == "no time was left"


def test_a_prebuilt_binary_must_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv("CRNN_PREBUILT", str(tmp_path))
    assert "no _C_cuda*.so there" in gpu.build(10)


def test_the_parts_fit_into_eight_minutes(tmp_path):
    parts = gpu.parts(tmp_path)
    assert len(parts) * gpu.GRACE / 2 + gpu.TOTAL < 480
    assert {p.name for p in parts} >= {"build", "tests", "memcheck", "racecheck", "train-bf16"}
    for dtype in ("bf16", "fp16", "tf32", "fp32"):
        (scan,) = [p for p in parts if p.name == f"scan-{dtype}"]
        assert dtype in scan.command(10)


@pytest.mark.parametrize("name", ["scan-bf16", "scan-fp32", "train-bf16", "train-tf32"])
def test_the_benchmarks_understand_what_they_are_told(name, tmp_path):
    """The options of a part, as far as a machine without a GPU can follow them."""
    (chosen,) = [p for p in gpu.parts(tmp_path) if p.name == name]
    if torch.cuda.is_available():
        pytest.skip("measures on a machine with a GPU")
    result = subprocess.run(chosen.command(10), capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "sees no GPU here" in result.stderr


def test_results_are_never_overwritten(tmp_path):
    first = gpu.free_path(tmp_path)
    first.with_suffix(".log").touch()
    assert gpu.free_path(tmp_path).stem == f"{first.stem}_2"


def test_without_a_gpu_it_says_so_in_one_sentence():
    if torch.cuda.is_available():
        pytest.skip("runs on a machine without a GPU")
    environment = {**os.environ, "PYTHON": sys.executable}
    result = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh"], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 1
    assert result.stdout == ""
    sees = f"torch {torch.__version__} sees none on this machine"
    assert result.stderr == f"benchmarks/gpu.sh needs a CUDA GPU, and {sees}\n"


def test_needs_torch_numpy_protobuf_and_pytest_alone():
    """The benchmarks and the op tests load where nothing else is installed."""
    code = """
import sys
for name in ("lmdb", "tqdm", "matplotlib", "hypothesis", "safetensors", "cv2", "pytest_timeout"):
    sys.modules[name] = None  # importing it now fails
import benchmarks.run, benchmarks.train, benchmarks.gpu, benchmarks.small
import pytest
options = ["-o", "addopts=", "-q", "--import-mode=importlib", "--collect-only", "-p", "no:cacheprovider"]
sys.exit(pytest.main([*options, "tests/ops"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    result = subprocess.run(
        program(code), capture_output=True, text=True, check=False, cwd=ROOT, env=environment
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


def test_a_signal_leaves_the_benchmark_with_what_it_has(tmp_path):
    """run.py at Ctrl-C: the JSON is written, what is missing is named."""
    words = [
        sys.executable,
        str(ROOT / "benchmarks" / "run.py"),
        "--device",
        "cpu",
        "--filter",
        "lrnn-b8-32x32-d64",
    ]
    process = subprocess.Popen(
        [*words, "--no-compile", "--seconds", "1000", "--runs", "100000", "--out", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "lrnn-b8-32x32-d64 scan fp32" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate()
    assert process.returncode == 0 and "everything after the interruption" in out
    assert len(list(tmp_path.glob("ops_*.json"))) == 1
