"""The threads that decode and cut the images of a batch."""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

#: Sets how many threads a loader has.
THREADS = "CRNN_DATA_THREADS"
PIECE = 1 << 20  # bytes of decoded pixels that are worth a thread


def thread_count() -> int:
    """CRNN_DATA_THREADS; without it the cores that this process may use, shared with torchrun's others here.

    Raises ValueError where the variable holds no positive number.
    """
    wanted = os.environ.get(THREADS, "")
    if wanted:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise ValueError(f"{THREADS} must be a positive number of threads, got {wanted!r}")
        return int(wanted)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


class Pieces:
    """Does work on each of a batch's images, in as many threads as pay; its threads end with the `with`.

    size: bytes of a decoded image.
    """

    def __init__(self, size: int):
        self.size, self.threads = size, thread_count()
        self._pool = ThreadPoolExecutor(self.threads, "crnn-decode") if self.threads > 1 else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._pool:
            self._pool.shutdown()

    def each(self, work: Callable[[int], object], count: int) -> list:
        """[work(0), ..., work(count - 1)]; the first exception in this order is raised."""
        return list(self.parts(lambda part: [work(i) for i in part], count))

    def parts(self, work: Callable[[range], list], count: int) -> Iterator:
        """What work(range(0, a)), ..., work(range(z, count)) hold, as `each`.

        Threads begin at once; where one does it all, it begins when the first result is asked for.
        """
        pieces = max(1, min(self.threads, count * self.size // PIECE))
        bounds = [count * piece // pieces for piece in range(pieces + 1)]
        do = self._pool.map if pieces > 1 else map
        return itertools.chain.from_iterable(do(work, map(range, bounds, bounds[1:])))
