"""Progress of long work: a bar with its ETA on a terminal, elsewhere Caffe's lines."""

import sys
from collections.abc import Iterable, Iterator


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
    for n, item in enumerate(items, done + 1):
        yield item
        if n % each == 0 and (total is None or n < total):
            print(f"Processed {n} files." if unit == "images" else f"{what}: {n:,} {unit}", flush=True)
