"""What a SolverParameter asks for before and between the iterations: checks, intervals, seeds, feeds."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from torch import Tensor

from crnn.proto import hdf5, pb
from crnn.solver import lr_policy
from crnn.solver.precision import DTYPES
from crnn.solver.windows import KINDS

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")  # of torch.compile
Feed = Mapping[str, Tensor] | Iterable[Mapping[str, Tensor]]


def check(param: pb.SolverParameter) -> None:
    """Raises ValueError for what no solver can do, before any net is built."""
    lr_policy.check(param)
    least_values = {"iter_size": 1, "average_loss": 1, "max_iter": 0, "snapshot": 0, "display": 0}
    for field, least in least_values.items():
        if getattr(param, field) < least:
            raise ValueError(f"{field} must be at least {least}, got {getattr(param, field)}")
    for field in ("base_lr", "momentum", "weight_decay", "gamma", "power"):
        if not math.isfinite(getattr(param, field)):
            raise ValueError(f"{field} must be finite, got {getattr(param, field)}")
    if param.snapshot_format == pb.SolverParameter.HDF5:
        hdf5.h5py()  # missing: now, not at the first snapshot
    if param.window_update not in KINDS:
        raise ValueError(f"unknown window_update {param.window_update!r}; known: {', '.join(KINDS)}")
    if param.compile and param.compile not in MODES:
        raise ValueError(f"unknown compile {param.compile!r}; torch.compile has {', '.join(MODES)}")
    if param.compile and (param.debug_info or param.window_update != "accumulate"):
        raise ValueError("compile shows no blobs between the layers: without debug_info and window_update")
    if param.precision not in DTYPES:
        raise ValueError(f"unknown precision {param.precision!r}; known: {', '.join(DTYPES)}")
    if param.precision == "float16" and param.window_update != "accumulate":
        raise ValueError(f'window_update: "{param.window_update}" does not go with precision: "float16"')
    if param.window_update == "sequential" and param.iter_size > 1:
        raise ValueError('window_update: "sequential" updates after every window: it needs iter_size 1')


def due(iteration: int, interval: int) -> bool:
    return interval > 0 and iteration % interval == 0


def each_pass(feed: Feed | None) -> Iterator[Mapping[str, Tensor]]:
    if feed is None or isinstance(feed, Mapping):
        yield from itertools.repeat(feed or {})
    yield from feed
    raise ValueError("the feed ended before the last pass; give one mapping for each pass, or one for all")


def seed_of(seed: int, iteration: int, rank: int) -> int:
    """The torch seed of one iteration of one process: far apart for neighbours."""
    place = (seed, iteration, rank) if rank else (seed, iteration)
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0])
