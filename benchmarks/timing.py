"""Timers: callables that run something once and give its milliseconds. Needs torch alone (worker.py)."""

import statistics
import time
from collections.abc import Callable

import torch

Timer = Callable[[], float]


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def eager(function: Callable, device: str) -> Timer:
    """Wall time of one call, from a device that has nothing to do to one that has nothing to do."""

    def timer() -> float:
        synchronise(device)
        start = time.perf_counter()
        function()
        synchronise(device)
        return (time.perf_counter() - start) * 1e3

    return timer


def settled(timer: Timer, ms: float = 100) -> Timer:
    """The run after so many milliseconds of runs. Where turns change between processes, the first ones find
    the other's values in the caches, its BLAS threads still spinning, and their own asleep."""

    def last() -> float:
        spent = 0.0
        while spent < ms:
            spent += timer()
        return timer()

    return last


def capture(function: Callable, calls: int) -> torch.cuda.CUDAGraph:
    """A CUDA graph of `calls` calls, one after another.

    Raises RuntimeError if the function cannot be captured (it waits for the device, or copies from the host).
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # warm: libraries make their handles and choose their kernels
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            function()
    return graph


def replayed(graph: torch.cuda.CUDAGraph, calls: int, flush: torch.Tensor | None) -> Timer:
    """Device time of one call of a graph.

    flush: a buffer larger than the L2 cache; it is overwritten before each replay, which then starts cold.
    Without it the replay before has left in L2 what fits. Either way the device is still busy with what
    stands before the first event when the replay is queued, so no launch latency is counted.
    """
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def timer() -> float:
        if flush is None:
            graph.replay()
        else:
            flush.random_(0, 2)
        torch.cuda._sleep(400_000)  # cycles: about 0.2 ms
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / calls

    return timer


def peak_bytes(function: Callable, device: str) -> int:
    """The most memory that torch had allocated at once during a call, beyond what was there before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    activity = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activity, profile_memory=True) as record:
        function()
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def interleaved(timers, runs: int, warm_up: int = 2) -> list[dict[str, float]]:
    """Median, p20 and p80 milliseconds of each timer (one run each, in ms), called in turn: A B A B."""
    samples = [[] for _ in timers]
    for run in range(warm_up + runs):
        for timer, times in zip(timers, samples, strict=True):
            ms = timer()
            if run >= warm_up:
                times.append(ms)
    return [spread(times) for times in samples]


def spread(times: list[float]) -> dict[str, float]:
    """Median, p20 and p80 of at least two times."""
    cuts = statistics.quantiles(times, n=10)
    return {"ms": statistics.median(times), "p20": cuts[1], "p80": cuts[7]}
