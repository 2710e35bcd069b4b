"""crnn::scan by the CUDA kernels `resident`, under emulation, against float64."""

import numpy as np
import pytest
import torch

from crnn.ops import LineBreak, reference
from crnn.testing import FOUR, SCAN_TOLERANCE, ScanCase, relative_error

#: Relative errors of the types themselves: z and the states are rounded to them, sums are not.
TOLERANCE = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: SCAN_TOLERANCE[torch.float32]}
TF32 = 2e-3  # float16's: tf32 has as many digits
BREAKS = [b.name.lower() for b in LineBreak]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("cell", [c for c in reference.CELLS if c != "gru_tanh"])
def test_every_cell_and_line_break(check_scan, cell, line_break, dtype):
    case = ScanCase(cell, line_break, FOUR, 3, 3, 2, 64, with_initial=True, with_cont=True)
    check_scan(case, dtype, "resident", TOLERANCE[dtype])


def test_tanh_gru_of_the_short_types(check_scan):
    for dtype in (torch.bfloat16, torch.float16):
        check_scan(
            ScanCase("gru_tanh", "carry", FOUR, 3, 3, 2, 64, True), dtype, "resident", TOLERANCE[dtype]
        )


@pytest.mark.parametrize("cell", [c for c in reference.CELLS if c != "gru_tanh"])
def test_tf32(check_scan, cell):
    case = ScanCase(cell, "carry_value", FOUR, 3, 3, 2, 64, with_initial=True, with_cont=True)
    check_scan(case, torch.float32, "resident_tf32", TF32)


#: N, H, W, D: channels that need padding, chains that do not fill a tile or fill several, lines of one.
ODD = [
    (1, 1, 1, 8), (5, 2, 2, 72), (1, 3, 2, 128), (9, 2, 3, 136), (3, 2, 2, 200), (17, 2, 2, 256),
    (1, 1, 5, 64), (2, 5, 1, 64), (40, 3, 1, 56), (33, 1, 2, 64), (0, 2, 3, 64),
]  # fmt: skip


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize("shape", ODD, ids=str)
@pytest.mark.parametrize("cell", ["relu", "ln_relu"])
def test_odd_shapes(check_scan, cell, shape, line_break, dtype):
    check_scan(ScanCase(cell, line_break, ("right", "up"), *shape), dtype, "resident", TOLERANCE[dtype])


@pytest.mark.parametrize("cell", ["gru", "lstm", "half_gru"])
def test_gates_of_padded_channels(check_scan, cell):
    for D in (8, 72, 120):
        check_scan(ScanCase(cell, "carry_value", FOUR, 5, 2, 3, D), torch.bfloat16, "resident", 1e-2)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_mirrored_lines_and_more_directions_than_a_launch_takes(check_scan, dtype):
    order = ("mirror_left", "mirror_up", *FOUR * 4)
    check_scan(ScanCase("relu", "carry_value", order, 2, 3, 2, 16), dtype, "resident", TOLERANCE[dtype])


@pytest.mark.parametrize("variant", ["plain", "resident"])
def test_any_strides_enter_without_a_copy(emulated, check_scan, variant):
    """A channels_last map, every second sample, one input for all directions: the bits of a dense copy."""
    case = ScanCase("relu", "carry_value", FOUR, 4, 3, 5, 64)
    z = case.inputs(torch.bfloat16)["z"]
    for strided in (
        z.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([z, z], 1)[:, ::2],
        z[:, :, :1].expand(-1, -1, 4, -1),
    ):
        got = check_scan(case, torch.bfloat16, variant, 1e-2, z=strided)
        want = check_scan(case, torch.bfloat16, variant, 1e-2, z=strided.contiguous())
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.parametrize(
    ("case", "dtype", "message"),
    [
        (
            ScanCase("relu", "carry", FOUR, 1, 2, 2, 7),
            torch.bfloat16,
            "rows that begin at multiples of 16 bytes",
        ),
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 264), torch.bfloat16, "no kernel .* for so many channels"),
        (ScanCase("lstm", "carry", FOUR, 1, 2, 2, 136), torch.bfloat16, "no kernel .* for so many channels"),
        (ScanCase("gru_tanh", "carry", FOUR, 1, 2, 2, 64), torch.float32, "no kernel of this cell and dtype"),
        (ScanCase("relu", "carry", FOUR, 1, 2, 2, 64), torch.float64, "no kernel of this cell and dtype"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_by_name(emulated, case, dtype, message):
    z, w_hh = case.inputs(dtype)["z"], case.inputs(dtype)["w_hh"]
    flat = [int(v) for d in case.plan for v in d]
    with pytest.raises(RuntimeError, match=f"variant 'resident' .*{message}"):
        emulated.scan(z, w_hh, None, None, None, flat, case.cell, "resident")


@pytest.mark.parametrize(("variant", "runs"), [("", "resident"), ("tf32", "resident_tf32")])
def test_floats_are_rounded_to_tf32_only_where_that_is_allowed(check_scan, variant, runs):
    case = ScanCase("relu", "carry", FOUR, 2, 3, 2, 64)
    chosen, forced = (check_scan(case, torch.float32, name, TF32) for name in (variant, runs))
    assert all(torch.equal(a, b) for a, b in zip(chosen, forced, strict=True))


@pytest.mark.parametrize("variant", ["plain", "resident", "gemm", "gemm_relu"])
def test_offsets_of_more_than_31_bits(emulated, variant):
    """Two positions 2^31 elements apart; what lies between is never touched, so it takes no memory."""
    case = ScanCase("relu", "carry", ("right", "left"), 3, 1, 2, 64)
    z, w_hh = (case.inputs(torch.bfloat16)[name] for name in ("z", "w_hh"))
    flat, far = [int(v) for d in case.plan for v in d], 2**31 + 64
    memory = torch.from_numpy(np.empty(far + z[0].numel(), np.int16)).view(torch.bfloat16)
    apart = memory.as_strided(z.shape, (far, *z.stride()[1:]))  # torch.empty may fill it
    rest = (w_hh, None, None, None)
    state, saved = emulated.scan(z, *rest, flat, "relu", variant)
    assert torch.equal(emulated.scan(apart.copy_(z), *rest, flat, "relu", variant)[0], state)
    dz = emulated.scan_backward(z.unsqueeze(0), *rest, state, saved, flat, "relu", variant)[0]
    again = emulated.scan_backward(apart.unsqueeze(0), *rest, state, saved, flat, "relu", variant)[0]
    assert torch.equal(again, dz)


@pytest.mark.parametrize("variant", ["plain", "resident"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("D", [8, 72, 200, 256])
def test_relu_keeps_a_bit_a_channel_and_backward_reads_no_state(emulated, variant, dtype, D):
    case = ScanCase("relu", "carry_value", FOUR, 3, 2, 3, D)
    z, w_hh = (case.inputs(dtype)[name] for name in ("z", "w_hh"))
    flat = [int(v) for d in case.plan for v in d]
    state, saved = emulated.scan(z, w_hh, None, None, None, flat, "relu", variant)
    bits = saved.squeeze(3).view(torch.uint8)
    assert bits.shape == (6, 3, 4, -(-D // 128) * 16)
    unpacked = bits.unsqueeze(4) >> torch.arange(8, dtype=torch.uint8) & 1
    assert torch.equal(unpacked.flatten(3)[..., :D].bool(), state[0] > 0)
    dstate = torch.randn_like(state)
    rest = (w_hh, None, None, None)
    one, other = (
        emulated.scan_backward(dstate, *rest, s, saved, flat, "relu", variant)[0]
        for s in (state, torch.full_like(state, float("nan")))
    )
    assert torch.equal(one, other)


def test_equal_input_gives_equal_bits(check_scan):
    case = ScanCase("ln_relu", "carry_value", FOUR, 5, 3, 2, 128)
    first, second = (check_scan(case, torch.bfloat16, "resident", 1e-2) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_recurrence_near_the_identity_stays_exact_over_long_chains(emulated):
    """W_hh = 0.98 I + noise, 512 steps: a state rounded at every step has four times the error."""
    case = ScanCase("relu", "carry", ("right",), 2, 16, 32, 128)
    inputs = case.inputs(torch.bfloat16)
    noise = torch.randn(1, 128, 128, generator=torch.Generator().manual_seed(2)) * 2e-4
    w_hh = (0.98 * torch.eye(128) + noise).bfloat16()
    z = (inputs["z"] * 0.1).bfloat16()
    flat = [int(v) for d in case.plan for v in d]
    got = emulated.scan(z, w_hh, None, None, None, flat, "relu", "resident")[0]
    want = reference.scan(z.double(), w_hh.double(), case.plan, "relu")
    rounded = want.bfloat16()
    assert relative_error(got, want) < 2 * relative_error(rounded, want)


#: Type of 2 bytes, K, D, samples, segments of a direction, backward -> chains a block, on an H200's 132
#: multiprocessors. Forward a segment starts from `initial`; backward one ends where the gradient is cut.
TILES = {
    "C-RNN B=256": ((True, 4, 256, 256, 1, False), 8),  # 32 tiles x 4 directions: 128 blocks at once
    "C-RNN B=32": ((True, 4, 256, 32, 1, False), 8),  # 16 blocks: a latency chain, the smallest tile
    "C-RNN B=256 backward, six windows": ((True, 4, 256, 256, 6, True), 16),  # more than fit: the largest
    "L-RNN 32x32, B=128, D=64": ((True, 2, 64, 128, 32, False), 32),  # 256 blocks of 128 threads
    "L-RNN 32x32, B=128, D=128": ((True, 2, 128, 128, 32, False), 32),
    "float": ((False, 4, 256, 256, 1, False), 8),
    "D=1024": ((True, 4, 1024, 10, 1, False), 0),
}


@pytest.mark.parametrize(("problem", "tile"), TILES.values(), ids=TILES)
def test_the_smallest_tile_whose_blocks_run_at_once(emulated, problem, tile):
    half, K, D, N, segments, backward = problem
    assert torch.ops.crnn_emulator.resident_tile("relu", half, K, D, N * segments, backward) == tile
