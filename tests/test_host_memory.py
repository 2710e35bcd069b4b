"""What a process keeps: measured in one of its own, by its page faults."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from crnn.host_memory import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(1 << 24) for _ in range(3)]  # 192 MiB: 49,152 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "keep":
    assert keep_freed()
print(min(faults() for _ in range(30)))  # small objects in its holes make the heap grow for up to six rounds
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="runs where the C library is glibc")
@pytest.mark.parametrize(("words", "few"), [("keep", True), ("give back", False)])
def test_a_tensor_takes_the_pages_of_the_one_before(words, few):
    done = subprocess.run([sys.executable, "-c", PROGRAM, words], capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 100) == few
