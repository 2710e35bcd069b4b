"""AVX512's tiles (12 rows of 64 bytes) and vectors, and AMX's tiles (16 rows, in pairs), under emulation."""

import pytest
import torch

from crnn.ops import plan, reference
from crnn.ops.inner_product_reference import inner_product
from crnn.testing import (
    FOUR,
    INNER_PRODUCT_TOLERANCE,
    SCAN_TOLERANCE,
    ScanCase,
    assert_near,
    inner_product_cases,
    scan_cases,
)

#: Of bfloat16 states and gradients: one rounding each in memory, one of what W_hh multiplies.
AMX_TOLERANCE = 5e-3
ODD = [  # N, H, W, D
    (1, 2, 3, 1), (5, 1, 4, 7), (5, 4, 1, 72), (16, 2, 2, 31), (17, 2, 2, 33), (25, 2, 2, 65), (257, 2, 1, 8),
    (3, 1, 2, 200), (1, 2, 2, 256), (18, 1, 2, 300), (2, 1, 2, 520),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("case", scan_cases(), ids=str)
def test_every_case_by_avx512(check_scan, case, dtype):
    check_scan(case, dtype, "avx512", SCAN_TOLERANCE[dtype])


@pytest.mark.parametrize("shape", ODD, ids=str)
def test_odd_shapes_by_avx512(check_scan, shape):
    check_scan(
        ScanCase("relu", "carry_value", FOUR, *shape), torch.float32, "avx512", SCAN_TOLERANCE[torch.float32]
    )


@pytest.mark.parametrize("case", scan_cases(), ids=str)
def test_every_case_by_amx(check_scan, case):
    check_scan(case, torch.bfloat16, "amx", AMX_TOLERANCE)


@pytest.mark.parametrize("shape", ODD, ids=str)
@pytest.mark.parametrize("cell", reference.CELLS)
def test_odd_shapes_by_amx(check_scan, cell, shape):
    check_scan(ScanCase(cell, "carry_value", FOUR, *shape), torch.bfloat16, "amx", AMX_TOLERANCE)


@pytest.mark.parametrize("dtype", INNER_PRODUCT_TOLERANCE, ids=str)
@pytest.mark.parametrize("case", inner_product_cases(), ids=str)
def test_few_rows_by_avx512(emulated, case, dtype):
    x, weight, dy = case.inputs(dtype).values()
    a, w = x.double().requires_grad_(), weight.double().requires_grad_()
    y = inner_product(a, w)
    da, dw = torch.autograd.grad(y, (a, w), dy.double())
    for got, want in (
        (emulated.inner_product(x, weight, "avx512"), y),
        (emulated.inner_product_input_backward(dy, weight, "avx512"), da),
        (emulated.inner_product_weights_backward(dy, x, "avx512"), dw),
    ):
        assert_near(got, want, INNER_PRODUCT_TOLERANCE[dtype])


def test_amx_gives_a_sequence_the_same_bits_beside_any_others(emulated):
    """24 of them are taken together, in two tiles of rows; 1 is taken alone."""
    case = ScanCase("relu", "carry", FOUR, 24, 1, 2, 72)
    inputs, flat = case.inputs(torch.bfloat16), [int(v) for d in case.plan for v in d]

    def state(z):
        return emulated.scan(z, inputs["w_hh"], None, None, None, flat, "relu", "amx")[0][0]

    together = state(inputs["z"])
    for n in range(case.N):
        assert torch.equal(state(inputs["z"][:, n : n + 1]), together[:, n : n + 1])


def test_amx_sums_in_float_across_blocks_of_the_inner_dimension(emulated):
    """A sum of 1,100 ones is exact; in bfloat16 it would end at 256."""
    flat = [int(v) for d in plan(("right",), 1, 2, "carry") for v in d]
    z, w = torch.zeros(2, 1, 1, 1100).bfloat16(), torch.ones(1, 1100, 1100).bfloat16()
    z[0] = 1
    state = emulated.scan(z, w, None, None, None, flat, "relu", "amx")[0]
    assert (state[0, 1].double() == torch.tensor(1100.0).bfloat16()).all()


def test_no_thread_keeps_amx_tiles(check_scan, configured_threads):
    check_scan(ScanCase("gru", "reset", FOUR, 17, 3, 3, 40), torch.bfloat16, "amx", AMX_TOLERANCE)
    assert configured_threads() == 0
