"""The instruction sets of the CPU kernels."""

import pytest
import torch

from crnn.ops import backends, lrn


@pytest.fixture(params=["portable", "avx2", "avx512"])
def cpu_variant(request):
    """An instruction set that the kernels are compiled for and this processor has."""
    if "cpu" not in backends():
        pytest.skip("needs the compiled extension")
    try:
        lrn(torch.zeros(1, 1, 1, 1), variant=request.param)
    except RuntimeError as error:
        assert f"this processor cannot run variant '{request.param}'" in str(error)
        pytest.skip(f"needs an x86 processor with {request.param.upper()}")
    return request.param
