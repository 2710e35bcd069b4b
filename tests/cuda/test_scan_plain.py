"""crnn::scan by the CUDA kernel `plain`, under emulation, against the reference in float64."""

import pytest
import torch

from crnn.ops import reference
from crnn.testing import FOUR, SCAN_TOLERANCE, ScanCase, scan_cases

HALF_TYPES = {torch.bfloat16: 2e-2, torch.float16: 3e-3}  # as tests/ops/test_cells.py


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", scan_cases(), ids=str)
def test_every_case(check_scan, case, dtype):
    check_scan(case, dtype, "plain", SCAN_TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", HALF_TYPES, ids=str)
@pytest.mark.parametrize("cell", reference.CELLS)
def test_half_types_accumulate_in_float(check_scan, cell, dtype):
    check_scan(ScanCase(cell, "carry_value", FOUR, 2, 3, 3, 32), dtype, "plain", HALF_TYPES[dtype])
