"""What an op allocates it frees: the bytes that malloc has given out, which no count of tensors shows."""

import ctypes

import pytest
import torch

from crnn.ops import backends, inner_product, lrn, plan, scan_states, update

CALLS = 2000


class Heap(ctypes.Structure):
    """glibc's struct mallinfo2; `uordblks` are the bytes in use."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
                     "fordblks", "keepcost")
    ]  # fmt: skip


def in_use() -> int:
    heap = ctypes.CDLL(None).mallinfo2
    heap.restype = Heap
    return heap().uordblks


def one_update() -> None:
    update([torch.ones(8)], [torch.ones(8)], [[torch.zeros(8)]], "SGD", [0.9], 0.1)


def one_lrn() -> None:
    lrn(torch.ones(1, 8, 3, 3, requires_grad=True)).sum().backward()


def one_inner_product() -> None:
    x, weight = torch.ones(2, 8, requires_grad=True), torch.ones(3, 8, requires_grad=True)
    inner_product(x, weight, variant="portable").sum().backward()


def one_scan() -> None:
    z = torch.ones(9, 1, 1, 4, requires_grad=True)
    scan_states(z, torch.ones(1, 4, 4, requires_grad=True), plan(["right"], 3, 3, "reset")).sum().backward()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33 or newer")
@pytest.mark.skipif("cpu" not in backends(), reason="needs the C++ kernels: make build")
@pytest.mark.parametrize("call", [one_update, one_lrn, one_inner_product, one_scan])
def test_calls_leave_nothing_behind(call, threads):
    threads(1)
    for _ in range(CALLS):
        call()
    before = in_use()
    for _ in range(CALLS):
        call()
    assert in_use() - before < 16 * CALLS  # a string that is lost is 48
