"""crnn::scan by the CUDA kernels `resident`, under emulation, against the reference in float64."""

import pytest
import torch

from crnn.ops import LineBreak, reference
from crnn.testing import FOUR, SCAN_TOLERANCE, ScanCase

#: Errors of the types themselves: z and the states are rounded to them, sums are not.
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: SCAN_TOLERANCE[torch.float32]}
BREAKS = [b.name.lower() for b in LineBreak]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("cell", reference.CELLS)
def test_every_cell_and_line_break(check_scan, cell, line_break, dtype):
    if (cell, dtype) == ("gru_tanh", torch.float32):
        return  # no such kernel: test_what_does_not_fit
    case = ScanCase(cell, line_break, FOUR, 3, 3, 2, 64, with_initial=True, with_cont=True)
    check_scan(case, dtype, "resident", TOLERANCE[dtype])
