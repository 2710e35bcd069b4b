"""Caffe's HDF5 files: weights (.caffemodel.h5) and solver states (.solverstate.h5).

Weights: /data/LAYER/I, a data set a blob, and with diffs /diff/LAYER/I. A blob that several layers share
stands under its owner alone in /data, under each of them in /diff.
State: /iter, /current_step, /learned_net, /history/I.

Caffe: Net::ToHDF5 in src/caffe/net.cpp, SGDSolver::SnapshotSolverStateToHDF5 in solvers/sgd_solver.cpp.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping

import numpy as np

from crnn.proto import messages as pb
from crnn.proto.blobs import from_array, to_array, write_bytes

Blobs = Mapping[str, Mapping[int, np.ndarray]]  # of each layer by name, by their number

_MAGIC = b"\x89HDF\r\n\x1a\n"
_MOST = 1032  # bytes that one byte of a file can stand for: deflate's limit


def h5py():
    """The h5py package. Raises ValueError naming the extra where it is not installed."""
    try:
        import h5py
    except ImportError:
        raise ValueError("HDF5 needs the package h5py: pip install 'crnn[hdf5]'") from None
    return h5py


def is_hdf5(path: str | os.PathLike) -> bool:
    """Whether path is named .h5, as Caffe decides, or begins as an HDF5 file does."""
    path = os.fspath(path)
    if path.endswith((".h5", ".hdf5")):
        return True
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def write_weights(path: str | os.PathLike, data: Blobs, diff: Blobs | None = None) -> None:
    """Writes each layer's blobs, whole or not at all: float32, or float64 where they are."""
    with _in_memory() as file:
        for name, layers in {"data": data, **({"diff": diff} if diff is not None else {})}.items():
            group = file.create_group(name)
            for layer, blobs in layers.items():
                _put(group.create_group(layer), blobs)
        write_bytes(path, _bytes_of(file))


def read_weights(path: str | os.PathLike) -> dict[str, dict[int, np.ndarray]]:
    """The blobs of each layer in /data. Raises OSError, or ValueError saying what the file is instead."""
    with opened(path) as file:
        if not isinstance(file.get("data"), h5py().Group):
            held = ", ".join(file) or "nothing"
            what = "a solver state" if "history" in file else f"an HDF5 file of {held}"
            raise ValueError(f"{path}: this is {what}, not weights (they stand in a group `data`)")
        return dict(_layers(file["data"], path))


def state_bytes(state: pb.SolverState) -> bytes:
    """A SolverState as the content of a .solverstate.h5."""
    with _in_memory() as file:
        for name in ("iter", "current_step"):
            file.create_dataset(name, (1,), np.int32, getattr(state, name))
        _put_string(file, "learned_net", state.learned_net)
        _put(file.create_group("history"), {i: to_array(blob) for i, blob in enumerate(state.history)})
        return _bytes_of(file)


def _in_memory():
    """A file in memory alone: HDF5 does not get over a disk that fails while it writes."""
    return h5py().File("in memory", "w", driver="core", backing_store=False)


def _bytes_of(file) -> bytes:
    file.flush()
    return file.id.get_file_image()


def read_state(path: str | os.PathLike) -> pb.SolverState:
    """The SolverState of a file. Raises OSError, or ValueError saying what the file is instead."""
    with opened(path) as file:
        missing = [name for name in ("iter", "current_step", "history") if name not in file]
        if missing:
            what = "weights" if "data" in file else f"an HDF5 file of {', '.join(file) or 'nothing'}"
            raise ValueError(f"{path}: this is {what}, not a solver state (it has no {missing[0]})")
        state = pb.SolverState(iter=_integer(file["iter"]), current_step=_integer(file["current_step"]))
        if "learned_net" in file:
            learned_net = file["learned_net"][()]
            state.learned_net = learned_net.decode() if isinstance(learned_net, bytes) else learned_net
        history = _blobs(file["history"], path)
        if set(history) != set(range(len(history))):
            raise ValueError(f"{path}: the history has blobs {sorted(history)}, not 0 to {len(history) - 1}")
        state.history.extend(from_array(history[i]) for i in range(len(history)))
        return state


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator:
    """An HDF5 file to read. Raises OSError naming it; also for what turns out damaged while it is read."""
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with h5py().File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:  # h5py's, of a file whose structure is broken
        raise OSError(f"{path} cannot be read as HDF5 ({error}); copy it again") from None


def _layers(group, path) -> Iterator[tuple[str, dict[int, np.ndarray]]]:
    """(layer, blobs) below group; a layer named a/b stands in the group b of a."""
    sets = {name: item for name, item in group.items() if hasattr(item, "shape")}
    below = [item for item in group.values() if not hasattr(item, "shape")]
    if sets or not below:
        name = group.name.removeprefix("/data").lstrip("/")
        if name:
            yield name, _blobs(sets, path)
    for item in below:
        yield from _layers(item, path)


def _blobs(sets: Mapping, path) -> dict[int, np.ndarray]:
    blobs = {}
    for name, item in sets.items():
        if not name.isdecimal() or item.dtype.kind not in "fiu":
            raise ValueError(f"{path}: {name!r} among the blobs is no numbered data set of numbers")
        if item.nbytes > _MOST * os.path.getsize(path):
            raise ValueError(f"{path}: blob {name} claims {item.nbytes:,} bytes, more than the file can hold")
        blobs[int(name)] = np.asarray(item, np.float64 if item.dtype == np.float64 else np.float32)
    return blobs


def _put(group, blobs: Mapping[int, np.ndarray]) -> None:
    for index, blob in blobs.items():
        group.create_dataset(str(index), data=blob)


def _put_string(file, name: str, text: str) -> None:
    """A string of fixed size with its closing zero, which Caffe reads up to; h5py itself writes none."""
    h5 = h5py()
    data = text.encode()
    kind = h5.h5t.C_S1.copy()
    kind.set_size(len(data) + 1)
    kind.set_strpad(h5.h5t.STR_NULLTERM)
    timeless = h5.h5p.create(h5.h5p.DATASET_CREATE)
    timeless.set_obj_track_times(False)  # as h5py's own: equal states are equal files
    dataset = h5.h5d.create(file.id, name.encode(), kind, h5.h5s.create(h5.h5s.SCALAR), timeless)
    dataset.write(h5.h5s.ALL, h5.h5s.ALL, np.array(data, f"S{len(data) + 1}"), kind)


def _integer(dataset) -> int:
    return int(np.asarray(dataset).reshape(-1)[0])
