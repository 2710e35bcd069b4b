"""Databases read back, and `crnn data ...` run as a user runs it."""

import subprocess
import sys

import pytest

from crnn.data.lmdb_reader import LmdbReader
from crnn.proto import pb


@pytest.fixture
def contents():
    """Reads a database: [(key, Datum)]."""

    def read(path):
        return [(key.decode(), pb.Datum.FromString(value)) for key, value in LmdbReader(path).items()]

    return read


@pytest.fixture
def crnn():
    """Runs `crnn ARGS`: a CompletedProcess with text output."""

    def run(*args):
        command = [sys.executable, "-m", "crnn", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run
