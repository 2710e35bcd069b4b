"""What scripts ask about several GPUs, answered for one process with one solver; and Caffe's Timer."""

import time


def has_nccl() -> bool:
    """False: a solver here has one device."""
    return False


class NCCL:
    """Not here: raises ValueError."""

    def __init__(self, *args):
        raise ValueError("crnn.pycaffe trains on one device; ask caffe.has_nccl() before caffe.NCCL")


def solver_count() -> int:
    return 1


def solver_rank() -> int:
    return 0


def set_solver_count(count: int) -> None:
    """Raises ValueError for more than one."""
    if count != 1:
        raise ValueError(f"set_solver_count: crnn.pycaffe trains with 1 solver, got {count}")


def set_solver_rank(rank: int) -> None:
    """Raises ValueError for any but the first."""
    if rank != 0:
        raise ValueError(f"set_solver_rank: crnn.pycaffe has rank 0 alone, got {rank}")


def set_multiprocess(multiprocess: bool) -> None:
    """Raises ValueError for True."""
    if multiprocess:
        raise ValueError("set_multiprocess: crnn.pycaffe trains in one process")


class Timer:
    """A stopwatch."""

    def __init__(self):
        self.started, self.elapsed = None, 0.0

    def start(self) -> None:
        self.started = time.perf_counter()

    def stop(self) -> None:
        if self.started is not None:
            self.elapsed, self.started = time.perf_counter() - self.started, None

    @property
    def ms(self) -> float:
        """Milliseconds between start and stop; until now where it runs."""
        seconds = self.elapsed if self.started is None else time.perf_counter() - self.started
        return seconds * 1000
