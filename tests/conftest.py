"""What tests share: uninitialised memory that reads as NaN, and a small real training set-up."""

import os
import shutil
import signal
import zlib
from pathlib import Path

import pytest
import torch

from crnn.testing import golden

SET_UP = ("logged_net.prototxt", "logged_solver.prototxt", "mean.binaryproto", "raw_color_lmdb")


@pytest.fixture(autouse=True, scope="session")
def nan_in_uninitialised_memory():
    """`empty` gives NaN, in C++ too: a kernel that leaves an output unwritten fails its test."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture(autouse=True, scope="session")
def nothing_compiled_before(tmp_path_factory):
    """What torch.compile keeps on disk holds the ops of a gradient, but is not looked up by them."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(autouse=True, scope="session")
def interrupts_arrive():
    """A suite started in the background ignores Ctrl-C, and what it starts inherits that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded(request):
    """A test draws the same whatever ran before it, here and on any number of processes."""
    torch.manual_seed(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def threads():
    """Sets torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def logged(tmp_path, monkeypatch):
    """A small net, LMDB and mean in the current folder; logged(max_iter=4) makes a solver."""
    for name in SET_UP:
        source = golden(f"tools/{name}")
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)

    def write(name="solver.prototxt", **fields):
        plain = {
            "net": '"logged_net.prototxt"',
            "base_lr": 1e-5,  # the golden's 1e-3 saturates the softmax
            "momentum": 0.9,
            "lr_policy": '"fixed"',
            "max_iter": 4,
            "snapshot_prefix": '"out/run"',
            "solver_mode": "CPU",
            "random_seed": 1,
        }
        lines = [f"{key}: {value}" for key, value in {**plain, **fields}.items() if value is not None]
        Path(name).write_text("\n".join(lines) + "\n")
        return name

    return write
