"""What C's malloc does with the memory of tensors that are let go of."""

import ctypes

MMAP_MAX, TRIM_THRESHOLD = -4, -1  # glibc, malloc.h


def keep_freed() -> bool:
    """From now on this process keeps memory that it has used, as Caffe keeps its blobs.

    By itself glibc gives each large tensor back to the system when it is freed, and the next forward waits
    for its pages to be zeroed anew: of AlexNet's training step of 64 images on two cores, a sixth. The first
    steps still take new pages, because small objects lodge in what was kept; then there are none.

    Returns whether the C library can be told so; glibc alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(MMAP_MAX, 0) and mallopt(TRIM_THRESHOLD, 2**31 - 1))
