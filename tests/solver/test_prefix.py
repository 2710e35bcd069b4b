"""A snapshot_prefix is one process's at a time, and what killed runs left under it goes."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crnn.solver.prefix import _locked, alone


def test_what_killed_runs_began_is_cleared(logged):
    """Their unfinished files, of a process that is gone; not another run's, nor those of a living process."""
    Path("out").mkdir()
    gone, alive = 2**22 + 1, os.getpid()  # Linux gives no process the first number
    kept = {
        f".other_iter_1.solverstate.{gone}.part",
        f".run2_iter_1.solverstate.{gone}.part",
        f"run_iter_3.{alive}.tempfile",
        f".run_iter_1.solverstate.{alive}.part",
        "run_iter_x.tempfile",
    }
    cleared = (
        f".run_iter_1.caffemodel.{gone}.part",
        f".run_iter_1.resume.json.{gone}.part",
        f".run_train.csv.{gone}.part",
        "run_iter_3.tempfile",
        f"run_iter_3.{gone}.tempfile",
    )
    for name in (*kept, *cleared):
        Path("out", name).touch()
    with alone("out/run"):
        assert set(os.listdir("out")) == kept | {".run.lock"}
    assert set(os.listdir("out")) == kept


def train_beside(tmp_path, *, fails: bool) -> str:
    """What a second process says that trains with the prefix of `logged`."""
    command = [sys.executable, "-m", "crnn", "train", "-solver", "solver.prototxt"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (run.returncode != 0) == fails, run.stderr
    return run.stderr


def test_a_prefix_is_of_one_process_at_a_time(logged, tmp_path):
    logged(snapshot=1, max_iter=2)
    with alone("out/run"):
        before = sorted(os.listdir("out"))
        said = train_beside(tmp_path, fails=True)
        assert "another process trains with snapshot_prefix 'out/run': wait for its end" in said
        assert "Traceback" not in said
        assert [name for name in sorted(os.listdir("out")) if not name.endswith(".log")] == before
        with alone("out/run"), alone("out/run2"):  # its own again; another prefix
            pass
        assert Path("out/.run.lock").exists()
    Path("out/.run.lock").touch()  # a killed one leaves it, without the lock
    train_beside(tmp_path, fails=False)
    assert not Path("out/.run.lock").exists() and Path("out/run_iter_2.solverstate").exists()


def test_a_lock_that_goes_while_it_is_waited_for_is_not_taken(tmp_path, monkeypatch):
    """Its file is gone from the folder: a third process would make, and lock, another."""
    prefix, real, calls = str(tmp_path / "run"), fcntl.flock, []

    def flock(descriptor, how):
        if not calls:
            (tmp_path / ".run.lock").unlink()  # its holder ends between open and lock
        calls.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr("fcntl.flock", flock)
    with alone(prefix):
        assert len(calls) == 2 and (tmp_path / ".run.lock").exists()
        with pytest.raises(OSError, match="another process trains"):
            _locked(tmp_path / ".run.lock", prefix)


def test_a_lock_of_another_run_is_left_where_the_folder_was_removed(tmp_path):
    folder = tmp_path / "out"
    with alone(str(folder / "run")):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / ".run.lock").touch()  # the other's
    assert (folder / ".run.lock").exists()


def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    """As a user's DataLoader worker, which may live longer than the process that trained."""
    code = (
        "import os, sys, time; from crnn.solver.prefix import alone\n"
        "with alone(sys.argv[1]):\n"
        "    if os.fork() == 0: print(flush=True)\n"  # the child has begun
        "    time.sleep(30)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        holder.stdout.readline()
        with pytest.raises(OSError, match="another process trains"), alone(str(tmp_path / "run")):
            pass
        holder.kill()
        holder.wait()
        with alone(str(tmp_path / "run")):
            pass
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
        holder.stdout.close()


def test_a_lock_that_cannot_be_opened_is_one_sentence(tmp_path):
    (tmp_path / ".run.lock").mkdir()
    with pytest.raises(
        OSError, match=r"run\.lock: Is a directory; if no other run uses it, remove that file"
    ):
        alone(str(tmp_path / "run")).__enter__()


def test_where_files_have_no_locks_training_goes_on(tmp_path, monkeypatch):
    def flock(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with alone(str(tmp_path / "run")), alone(str(tmp_path / "run")):
        pass
    assert os.listdir(tmp_path) == []
