"""What every test has: uninitialised memory that reads as NaN."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def nan_in_uninitialised_memory():
    """`empty` gives NaN, in C++ too: a kernel that leaves an output unwritten fails its test."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True


@pytest.fixture
def threads():
    """Sets torch's number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
