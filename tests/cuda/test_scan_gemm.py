"""crnn::scan by the CUDA kernels `gemm` and `gemm_relu`, under emulation with a stand-in for cublasLt
(emulator/cublaslt_stand_in.cpp), against float64."""

import pytest
import torch

from crnn.ops import LineBreak, reference
from crnn.testing import FOUR, SCAN_TOLERANCE, ScanCase

#: Relative errors of the types themselves: the state is rounded to them before each product, sums are not.
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3, **SCAN_TOLERANCE}
SHORT = [d for d in TOLERANCE if d != torch.float64]  # cublasLt's relu knows no double
TF32 = 2e-3  # float16's: tf32 has as many digits
BREAKS = [b.name.lower() for b in LineBreak]


@pytest.fixture
def cublaslt(emulated):
    """cublaslt(found=, epilogues=) sets what the stand-in is and supports, for one test."""

    def choose(found=True, epilogues=True):
        torch.ops.crnn_emulator.cublaslt(found, epilogues)

    yield choose
    choose()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("cell", reference.CELLS)
def test_every_cell_and_line_break(check_scan, cell, line_break, dtype):
    case = ScanCase(cell, line_break, FOUR, 3, 3, 2, 64, with_initial=True, with_cont=True)
    check_scan(case, dtype, "gemm", TOLERANCE[dtype])


@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("cell", reference.CELLS)
def test_scans_that_start_from_nothing(check_scan, cell, line_break):
    case = ScanCase(cell, line_break, FOUR, 2, 3, 4, 72)
    check_scan(case, torch.float32, "gemm", TOLERANCE[torch.float32])


@pytest.mark.parametrize("with_initial", [False, True])
@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("line_break", BREAKS)
def test_relu_as_one_product_a_step(check_scan, line_break, dtype, with_initial):
    case = ScanCase("relu", line_break, FOUR, 3, 3, 2, 64, with_initial)
    check_scan(case, dtype, "gemm_relu", TOLERANCE[dtype])


#: N, H, W, D: rows of odd bytes and of several blocks' threads, single chains and many, lines of one.
ODD = [
    (1, 2, 2, 264), (5, 2, 3, 300), (2, 2, 1, 520), (33, 1, 2, 67), (1, 1, 5, 1100), (1, 5, 1, 65),
    (1, 1, 1, 128), (0, 2, 3, 64),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("shape", ODD, ids=str)
@pytest.mark.parametrize(
    ("cell", "variant"), [("relu", "gemm_relu"), ("relu", "gemm"), ("ln_relu", "gemm"), ("gru", "gemm")]
)
def test_odd_shapes(check_scan, cell, variant, shape, dtype):
    check_scan(ScanCase(cell, "carry_value", ("right", "up"), *shape), dtype, variant, TOLERANCE[dtype])


@pytest.mark.parametrize("variant", ["gemm", "gemm_relu"])
@pytest.mark.parametrize(
    "order",
    [("right",), ("left", "right"), ("mirror_left", "mirror_up", *FOUR * 4)],
    ids=["one", "two", "more than a launch takes"],
)
def test_any_number_of_directions(check_scan, variant, order):
    case = ScanCase("relu", "carry_value", order, 2, 3, 2, 64, with_initial=True)
    check_scan(case, torch.bfloat16, variant, 1e-2)


@pytest.mark.parametrize("variant", ["gemm", "gemm_relu"])
def test_directions_too_unlike_to_go_together(check_scan, variant):
    """On a map of one row a direction along it has W steps, one across it has one."""
    case = ScanCase("relu", "reset", FOUR, 3, 1, 7, 64, with_initial=True)
    check_scan(case, torch.bfloat16, variant, 1e-2)


@pytest.mark.parametrize("variant", ["gemm", "gemm_relu"])
def test_any_strides_enter_without_a_copy(check_scan, variant):
    """A channels_last map, every second sample, one input for all directions: the bits of a dense copy."""
    case = ScanCase("relu", "carry_value", FOUR, 4, 3, 2, 64)
    z = case.inputs(torch.bfloat16)["z"]
    for strided in (
        z.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([z, z], 1)[:, ::2],
        z[:, :, :1].expand(-1, -1, 4, -1),
    ):
        got = check_scan(case, torch.bfloat16, variant, 1e-2, z=strided)
        want = check_scan(case, torch.bfloat16, variant, 1e-2, z=strided.contiguous())
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize("variant", ["gemm", "gemm_relu"])
@pytest.mark.parametrize("dtype", SHORT, ids=str)
@pytest.mark.parametrize("D", [67, 72, 200])
def test_relu_keeps_a_bit_a_channel_and_backward_reads_no_state(emulated, variant, dtype, D):
    case = ScanCase("relu", "carry_value", FOUR, 3, 2, 3, D)
    z, w_hh = (case.inputs(dtype)[name] for name in ("z", "w_hh"))
    flat, rest = [int(v) for d in case.plan for v in d], (w_hh, None, None, None)
    state, saved = emulated.scan(z, *rest, flat, "relu", variant)
    bits = saved.squeeze(3).view(torch.uint8).unsqueeze(4) >> torch.arange(8, dtype=torch.uint8) & 1
    assert torch.equal(bits.flatten(3)[..., :D].bool(), state[0] > 0)
    dstate = torch.randn_like(state)
    one, other = (
        emulated.scan_backward(dstate, *rest, s, saved, flat, "relu", variant)[0]
        for s in (state, torch.full_like(state, float("nan")))
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("step", [1, 2])
def test_a_sequence_is_read_where_it_lies(check_scan, step):
    """One direction, all samples' rows equally far apart: neither z nor h passes through scratch."""
    case = ScanCase("relu", "carry", ("right",), 4, 1, 6, 64, with_initial=True)
    z = case.inputs(torch.bfloat16)["z"].repeat_interleave(step, 1)[:, ::step]
    check_scan(case, torch.bfloat16, "gemm_relu", 1e-2, z=z)


@pytest.mark.parametrize(("variant", "cell"), [("gemm", "ln_relu"), ("gemm", "gru"), ("gemm_relu", "relu")])
def test_equal_input_gives_equal_bits(check_scan, variant, cell):
    case = ScanCase(cell, "carry_value", FOUR, 3, 3, 2, 72, with_initial=True)
    first, second = (check_scan(case, torch.bfloat16, variant, 1e-2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_floats_are_rounded_to_tf32_only_where_that_is_allowed(check_scan):
    case = ScanCase("relu", "carry", FOUR, 2, 3, 2, 264)
    rounded = check_scan(case, torch.float32, "tf32", TF32)
    exact = check_scan(case, torch.float32, "", TOLERANCE[torch.float32])
    assert not torch.equal(rounded[0], exact[0])


@pytest.mark.parametrize(
    ("case", "dtype", "runs"),
    [
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 264), torch.bfloat16, "gemm_relu"),
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 264, with_cont=True), torch.bfloat16, "gemm"),
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 64), torch.float64, "gemm"),
        (ScanCase("lstm", "carry", FOUR, 1, 2, 2, 136), torch.bfloat16, "gemm"),
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 63), torch.bfloat16, "plain"),
    ],
    ids=str,
)
def test_what_does_not_stay_resident_runs_by_products(check_scan, case, dtype, runs):
    chosen, forced = (check_scan(case, dtype, variant, 2e-2) for variant in ("", runs))
    assert all(torch.equal(a, b) for a, b in zip(chosen, forced, strict=True))


def test_a_cublaslt_without_the_epilogues(check_scan, cublaslt):
    case = ScanCase("relu", "carry_value", FOUR, 2, 3, 2, 328)  # no other test's: answers are kept
    cublaslt(epilogues=False)
    with pytest.raises(RuntimeError, match="'gemm_relu' needs a cublasLt whose products end in relu"):
        check_scan(case, torch.bfloat16, "gemm_relu", 1e-2)
    chosen, forced = (check_scan(case, torch.bfloat16, variant, 1e-2) for variant in ("", "gemm"))
    assert all(torch.equal(a, b) for a, b in zip(chosen, forced, strict=True))


def test_no_cublaslt(check_scan, cublaslt):
    case = ScanCase("relu", "carry_value", FOUR, 1, 2, 2, 264)
    cublaslt(found=False)
    with pytest.raises(RuntimeError, match="'gemm' needs cublasLt, which this process has not"):
        check_scan(case, torch.bfloat16, "gemm", 1e-2)
    chosen, forced = (check_scan(case, torch.bfloat16, variant, 1e-2) for variant in ("", "plain"))
    assert all(torch.equal(a, b) for a, b in zip(chosen, forced, strict=True))


@pytest.mark.parametrize(
    ("case", "variant", "message"),
    [
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 63), "gemm", "is for 64 channels or more"),
        (ScanCase("tanh", "carry", FOUR, 1, 2, 2, 64), "gemm_relu", "is for cell relu"),
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 64, with_cont=True), "gemm_relu", "takes no cont"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(check_scan, case, variant, message):
    with pytest.raises(RuntimeError, match=f"variant '{variant}' {message}"):
        check_scan(case, torch.float32, variant, 1e-2)


def test_cublaslt_is_asked_once_for_each_product(check_scan):
    case = ScanCase("relu", "carry_value", FOUR, 2, 3, 2, 344)  # no other test's
    asked = [torch.ops.crnn_emulator.cublaslt_asked()]
    for _ in range(2):
        check_scan(case, torch.bfloat16, "gemm", 1e-2)
        asked.append(torch.ops.crnn_emulator.cublaslt_asked())
    assert asked[0] < asked[1] == asked[2]
