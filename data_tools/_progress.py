"""Progress of long work: a bar with its ETA on a terminal, elsewhere Caffe's lines and at times the ETA."""

import sys
import time
from collections.abc import Iterable, Iterator

LINES = 10  # of Caffe's for one with the ETA


def watched(
    items: Iterable,
    what: str,
    total: int | None = None,
    each: int = 1000,
    done: int = 0,
    unit: str = "images",
) -> Iterator:
    """The items, with a bar on a terminal, elsewhere a line each so many; `done` of `total` came before."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, desc=what, total=total, initial=done, unit=f" {unit}")
        return
    start = time.monotonic()
    for n, item in enumerate(items, done + 1):
        yield item
        if n % each == 0 and (total is None or n < total):
            print(f"Processed {n} files." if unit == "images" else f"{what}: {n:,} {unit}", flush=True)
            if total and n % (LINES * each) == 0:
                print(_left(what, n, total, (n - done) / (time.monotonic() - start), unit), flush=True)


def _left(what: str, n: int, total: int, rate: float, unit: str) -> str:
    minutes = round((total - n) / rate / 60)
    left = f"{minutes // 60}:{minutes % 60:02d} h left"
    return f"{what}: {n / total:.0%} of {total:,} {unit}, {rate:,.0f} a second, {left}"
