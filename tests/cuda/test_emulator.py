"""The emulated device against the tables of the PTX manual ("Warp-level matrix instructions"), and the faults
that it must find."""

import pytest
import torch

LANES = torch.arange(32)


@pytest.fixture(scope="module")
def device(emulated):
    return torch.ops.crnn_emulator


def words(pairs: torch.Tensor) -> torch.Tensor:
    """[32, R, 2] two-byte values -> [32, R] int32, the first in the lower half."""
    return pairs.contiguous().view(torch.int32).squeeze(-1)


# mma.m16n8k16, two-byte types. "groupID = %laneid >> 2; threadID_in_group = %laneid % 4".
def a_of_k16(lane, i):
    group, thread = lane >> 2, lane % 4
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    return row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)


def b_of_k16(lane, i):
    group, thread = lane >> 2, lane % 4
    return thread * 2 + (i & 1) + (8 if i >= 2 else 0), group


def c_of(lane, i):
    group, thread = lane >> 2, lane % 4
    return (group if i < 2 else group + 8), thread * 2 + (i & 1)


# mma.m16n8k8, tf32: one value a register.
def a_of_k8(lane, i):
    group, thread = lane >> 2, lane % 4
    return (group if i in (0, 2) else group + 8), (thread if i < 2 else thread + 4)


def b_of_k8(lane, i):
    return lane % 4 + 4 * i, lane >> 2


def fragment(matrix, place, count):
    """[32, count]: what each lane holds of the matrix."""
    return torch.stack([torch.stack([matrix[place(lane, i)] for i in range(count)]) for lane in range(32)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_multiply_of_two_byte_types(device, dtype):
    a, b, c = torch.randn(16, 16).to(dtype), torch.randn(16, 8).to(dtype), torch.randn(16, 8)
    got = fragment(c, c_of, 4)
    left = words(fragment(a, a_of_k16, 8).view(32, 4, 2))
    right = words(fragment(b, b_of_k16, 4).view(32, 2, 2))
    device.multiply(got, left, right, str(dtype).removeprefix("torch."))
    want = fragment((c.double() + a.double() @ b.double()).float(), c_of, 4)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-5)


def test_multiply_of_tf32(device):
    a, b, c = torch.randn(16, 8), torch.randn(8, 8), torch.randn(16, 8)
    for values in (a, b):
        device.round_to_tf32(values)
    got = fragment(c, c_of, 4)
    left, right = fragment(a, a_of_k8, 4).view(torch.int32), fragment(b, b_of_k8, 2).view(torch.int32)
    device.multiply(got, left, right, "tf32")
    want = fragment((c.double() + a.double() @ b.double()).float(), c_of, 4)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-5)


def test_multiply_of_tf32_reads_the_upper_bits_alone(device):
    a, b, c = torch.zeros(32, 4), torch.zeros(32, 2), torch.zeros(32, 4)
    a[0, 0], b[0, 0] = 1 + 2**-12, 1  # A(0, 0) and B(0, 0)
    device.multiply(c, a.view(torch.int32), b.view(torch.int32), "tf32")
    assert c[0, 0] == 1


def test_tf32_rounds_to_nearest_and_ties_away_from_zero(device):
    x = torch.tensor([1 + 2**-11, -1 - 2**-11, 1 + 2**-11 - 2**-23, 1 + 2**-10 + 2**-12, 0, float("inf")])
    device.round_to_tf32(x)
    assert x.tolist() == [1 + 2**-10, -1 - 2**-10, 1, 1 + 2**-10, 0, float("inf")]


def test_shuffle(device):
    for mask in (1, 4, 31):
        values = LANES.float()
        device.shuffle(values, mask)
        assert torch.equal(values, (LANES ^ mask).float())


@pytest.mark.parametrize("blocks", [1, 2, 8])
def test_blocks_of_a_cluster_see_each_others_writes_after_its_barrier(device, blocks):
    """As barrier.cluster.arrive.release and .wait.acquire: global memory, again and again, each cluster."""
    seen = torch.zeros(3, blocks, 4)
    device.exchange(torch.full((3, blocks), -1.0), seen, True)
    want = (torch.arange(blocks).view(1, -1, 1) + 1) % blocks + 100 * torch.arange(4)
    assert torch.equal(seen, want.expand(3, -1, -1).float())


def test_without_a_cluster_barrier_they_do_not(device):
    seen = torch.zeros(1, 2, 1)
    device.exchange(torch.full((1, 2), -1.0), seen, False)
    assert seen.flatten().tolist() == [-1, 0]


@pytest.fixture
def memory():
    """Sixty-four rows of eight two-byte values; row r, column c holds 100 r + c."""
    rows = torch.arange(64).view(-1, 1) * 100 + torch.arange(8)
    return rows.to(torch.int16)


def test_load_matrices(device, memory):
    """ldmatrix .x4: lanes 8m .. give the rows of matrix m; a lane gets two values of row laneid / 4."""
    rows = torch.randperm(64)[:32]
    got = torch.zeros(32, 4, dtype=torch.int32)
    device.load_matrices(got, memory.view(torch.uint8).flatten(), (rows * 16).int(), False)
    for lane in range(32):
        for m in range(4):
            want = memory[rows[8 * m + lane // 4], 2 * (lane % 4) :][:2]
            assert torch.equal(got[lane, m : m + 1].view(torch.int16), want)


@pytest.mark.parametrize("count", [2, 4])
def test_load_matrices_transposed(device, memory, count):
    """.trans: each matrix is loaded in column-major format."""
    rows = torch.randperm(64)[:32]
    got = torch.zeros(32, count, dtype=torch.int32)
    device.load_matrices(got, memory.view(torch.uint8).flatten(), (rows * 16).int(), True)
    for lane in range(32):
        for m in range(count):
            want = memory[rows[8 * m : 8 * m + 8]].T[lane // 4, 2 * (lane % 4) :][:2]
            assert torch.equal(got[lane, m : m + 1].view(torch.int16), want)


def test_store_matrices_is_the_reverse_of_the_load(device, memory):
    rows = torch.randperm(64)[:32]
    registers = torch.zeros(32, 2, dtype=torch.int32)
    bytes_ = memory.view(torch.uint8).flatten()
    device.load_matrices(registers, bytes_, (rows * 16).int(), True)
    elsewhere = torch.zeros_like(bytes_)
    device.store_matrices(registers, elsewhere, (rows * 16).int())
    stored = elsewhere.view(torch.int16).view(64, 8)
    assert torch.equal(stored[rows[:16]], memory[rows[:16]])
    assert not stored[rows[16:]].any()


@pytest.mark.parametrize(
    ("mistake", "message"),
    {
        "read before the barrier": "was written by another thread since the last barrier",
        "write where another read": "was read by another thread since the last barrier",
        "two write": "was written by another thread since the last barrier",
        "another warp after a warp barrier": "was written by another thread since the last barrier",
        "its own warp without a barrier": "was written by another thread since the last barrier",
        "matrices of unwritten memory": "was never written",
        "outside": "lies outside the block's shared memory",
        "not aligned": "is not aligned",
        "copy not waited for": "asynchronous copy that was not waited for",
        "copy without a barrier": "was written by another thread since the last barrier",
        "copy from an odd address": "is not aligned to 16 bytes",
        "copies under way at the end": "ends with asynchronous copies under way",
        "lanes at different collectives": "where another lane of its warp calls",
        "a thread that misses the barrier": "waits for ever",
        "a thread that misses the cluster barrier": "waits for ever",
        "threads at different barriers": "waits for ever",
    }.items(),
)
def test_a_mistake_is_found(device, mistake, message):
    with pytest.raises(RuntimeError, match=f"emulator: mistaken, block .0, 0., thread .*{message}"):
        device.mistake(mistake)


def test_a_block_that_misses_the_cluster_barrier_is_found(device):
    with pytest.raises(RuntimeError, match=r"mistaken, block .0, 0.: .*cluster barrier, others gone"):
        device.mistake("a block that misses the cluster barrier")


CURES = [
    "read after the barrier", "its own warp after a warp barrier", "copy with both",
    "read after the cluster barrier",
]  # fmt: skip


@pytest.mark.parametrize("cure", CURES)
def test_what_is_right_passes(device, cure):
    device.mistake(cure)
