"""Which backend runs, and what happens where one is missing."""

import os
import subprocess
import sys

import pytest
import torch

from crnn.ops import backend, backends, plan, scan, use_backend


def run_python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    return result.returncode, result.stdout.strip(), result.stderr


def test_reference_is_always_there():
    assert backends()[0] == "reference"


def test_a_cpu_tensor_takes_the_compiled_backend_where_it_is():
    assert backend.choose(torch.zeros(1)) == ("cpu" if "cpu" in backends() else "reference")


def test_use_backend_forces_and_restores():
    before = backend.choose(torch.zeros(1))
    with use_backend("reference"):
        assert backend.choose(torch.zeros(1)) == "reference"
    assert backend.choose(torch.zeros(1)) == before


@pytest.mark.parametrize("name", ["fpga", "cuda"])
def test_a_forced_backend_that_is_missing_is_an_error(name):
    if name in backends():
        pytest.skip("this machine has it")
    with (
        pytest.raises(ValueError, match=r"unknown backend 'fpga'; known|backend 'cuda' is not usable"),
        use_backend(name),
    ):
        pass


def test_a_backend_forced_on_a_tensor_of_another_device_is_an_error():
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    z = torch.zeros(4, 1, 1, 2, device="meta")
    with use_backend("cpu"), pytest.raises(ValueError, match="'cpu' is forced, but the tensor is on meta"):
        scan(z, torch.zeros(1, 2, 2), plan(("right",), 2, 2, "carry"))


def test_environment_forces():
    code = "import torch; from crnn.ops import backend; print(backend.choose(torch.zeros(1)))"
    assert run_python(code, CRNN_BACKEND="reference")[:2] == (0, "reference")
    status, _, errors = run_python(code, CRNN_BACKEND="fpga")
    assert status == 1 and "unknown backend 'fpga'" in errors


def test_everything_works_without_the_extension():
    code = """
import sys
sys.modules["crnn._C"] = None  # importing it now raises ImportError, as where it was never built
import torch, crnn.nn
from crnn.ops import backends
y = crnn.nn.SpatialRNN(3, 4)(torch.ones(2, 3, 5, 6))
y.sum().backward()
print(backends(), tuple(y.shape))
"""
    assert run_python(code)[:2] == (0, "('reference',) (2, 4, 5, 6)")
