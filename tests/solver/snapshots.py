"""What tests of snapshots share."""

import pytest
import torch

from crnn.solver.solver import Solver


def bits(solver):
    return [t.clone() for p in solver.params for t in (p.blob.detach(), *p.history)]


def assert_equal_bits(a, b):
    assert all(torch.equal(x, y) for x, y in zip(bits(a), bits(b), strict=True))


def saved(logged, **fields):
    solver = Solver(logged(**fields))
    solver.step(2)
    return solver.snapshot()


def refuses(logged, path, message, error=ValueError, **fields):
    """restore() raises and changes nothing."""
    solver = Solver(logged(**fields))
    before = bits(solver)
    with pytest.raises(error, match=message):
        solver.restore(path)
    assert solver.iter == 0
    assert all(map(torch.equal, bits(solver), before))
