"""Pieces: how many threads a loader has, and that they change nothing."""

import threading

import pytest

from crnn.data import pieces
from crnn.data.pieces import PIECE, THREADS, Pieces, thread_count


def test_the_cores_are_shared_with_the_other_processes_of_torchrun(monkeypatch):
    monkeypatch.delenv(THREADS, raising=False)
    monkeypatch.setattr(pieces.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    for processes, threads in (("1", 12), ("5", 2), ("24", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert thread_count() == threads
    monkeypatch.setenv(THREADS, "7")
    assert thread_count() == 7


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5"])
def test_a_wrong_number_of_threads_is_refused(monkeypatch, wanted):
    monkeypatch.setenv(THREADS, wanted)
    with pytest.raises(
        ValueError, match=f"CRNN_DATA_THREADS must be a positive number of threads, got '{wanted}'"
    ):
        thread_count()


def test_results_come_in_order_from_several_threads_and_these_end(monkeypatch):
    monkeypatch.setenv(THREADS, "3")
    meet = threading.Barrier(3, timeout=60)  # passes only where three threads work at once
    with Pieces(PIECE) as some:
        assert some.each(lambda i: (meet.wait(), i)[1], 3) == [0, 1, 2]
        assert some.each(lambda i: i, 10) == list(range(10))
    assert not any(thread.name.startswith("crnn-decode") for thread in threading.enumerate())


def test_a_batch_of_few_bytes_stays_in_the_thread_that_asks(monkeypatch):
    monkeypatch.setenv(THREADS, "3")
    with Pieces(10) as some:
        assert set(some.each(lambda _: threading.current_thread(), 8)) == {threading.current_thread()}


def test_the_first_exception_is_raised(monkeypatch):
    monkeypatch.setenv(THREADS, "2")

    def fail(i):
        raise ValueError(f"image {i}")

    with Pieces(PIECE) as some, pytest.raises(ValueError, match="image 0"):
        some.each(fail, 4)
