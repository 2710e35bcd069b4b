"""Snapshots: Caffe's .caffemodel and .solverstate (or .h5), and beside them a .resume.json (resume.py).

Caffe: Solver::Snapshot in src/caffe/solver.cpp, SGDSolver::SnapshotSolverState in sgd_solver.cpp.
"""

import glob
import hashlib
import itertools
import os
import re
from pathlib import Path

import torch

from crnn.net import weights
from crnn.proto import hdf5, pb
from crnn.proto.blobs import (
    from_array,
    read_binary,
    serialized,
    shape_equals,
    shape_of,
    to_array,
    write_bytes,
)
from crnn.proto.stored import read_layers
from crnn.solver import resume
from crnn.solver.prefix import probe

#: Of a snapshot's files, the solverstate first: where it is gone, the rest is of no use.
ENDINGS = (".solverstate", ".solverstate.h5", ".resume.json", ".caffemodel", ".caffemodel.h5")


def save(solver) -> str:
    """Writes the solver's snapshot and returns the solverstate's path. Each file appears whole or not at all.

    Raises FloatingPointError, with nothing written, if a blob is not finite.
    """
    for param in solver.params:
        if not torch.isfinite(param.blob).all():
            raise FloatingPointError(
                f"{param.name} is not finite after iteration {solver.iter - 1}, so no snapshot was written; "
                f"{solver.last_good()}"
            )
    stem = f"{solver.param.snapshot_prefix}_iter_{solver.iter}"
    in_hdf5 = solver.param.snapshot_format == pb.SolverParameter.HDF5
    kind, end, line = ("HDF5", ".h5", 474) if in_hdf5 else ("binary proto", "", 464)
    model, path = f"{stem}.caffemodel{end}", f"{stem}.solverstate{end}"
    carried = resume.carried(solver)
    if solver.ranks.rank > 0:
        return path
    probe(solver.param.snapshot_prefix, solver.iter)
    _set_aside(solver, stem)
    solver.note(f"solver.cpp:{line}", f"Snapshotting to {kind} file {model}", shown=True)
    weights.save(solver.net, model, solver.param.snapshot_diff)
    solver.note("sgd_solver.cpp:284", f"Snapshotting solver state to {kind} file {path}")
    state = pb.SolverState(iter=solver.iter, learned_net=model, current_step=solver.current_step)
    state.history.extend(from_array(h.cpu().numpy()) for h in _histories(solver))
    data = hdf5.state_bytes(state) if in_hdf5 else serialized(path, state)
    sums = {model: weights.sha256(model), path: hashlib.sha256(data).hexdigest()}
    weights.write_resume(path, resume.content(solver, carried, sums))
    write_bytes(path, data)  # the solverstate comes last: where it is, the rest is
    if solver.param.snapshot_keep:
        _remove_old(solver)
    return path


def states(prefix: str) -> list[str]:
    """The .solverstate files of a snapshot_prefix, Caffe's too, the oldest iteration first."""
    found = {}
    for path in glob.glob(f"{glob.escape(prefix)}_iter_*.solverstate*"):
        match = re.fullmatch(r"(\d+)\.solverstate(\.h5)?", path.removeprefix(f"{prefix}_iter_"))
        if match:
            found[int(match[1]), path] = path
    return [found[place] for place in sorted(found)]


def run_of(stem: str) -> str | None:
    """The run that wrote a snapshot; None where its .resume.json does not say, or is not there."""
    try:
        return (weights.read_resume(f"{stem}.solverstate") or {}).get("run")
    except ValueError:  # damaged
        return None


def newest_first(prefix: str) -> tuple[list[str], list[str]]:
    """The .solverstate files of the run that wrote last, or of an unknown one, and those of other runs."""
    paths = states(prefix)[::-1]
    runs = {path: run_of(_stem(path)) for path in paths}
    last = max((path for path in paths if runs[path]), key=os.path.getmtime, default=None)
    own = [path for path in paths if runs[path] in (None, last and runs[last])]
    return own, [path for path in paths if path not in own]


def iteration_of(path: str) -> int:
    """By a snapshot's name."""
    return int(_stem(path).rpartition("_")[2])


def _stem(path: str) -> str:
    return path.removesuffix(".h5").removesuffix(".solverstate")


def _set_aside(solver, stem: str) -> None:
    """Renames a whole snapshot of this name that another run wrote: NAME.1, NAME.2, ..."""
    if not any(os.path.exists(stem + ending) for ending in ENDINGS[:2]) or run_of(stem) == solver.run_id:
        return
    number = next(n for n in itertools.count(1) if not any(os.path.exists(f"{stem}{e}.{n}") for e in ENDINGS))
    for ending in ENDINGS:
        if os.path.exists(stem + ending):
            os.rename(stem + ending, f"{stem}{ending}.{number}")
    text = f"another run wrote {stem}.solverstate: its files are now called *.{number}"
    solver.note("snapshot.py", text, shown=True, severity="W")


def _remove_old(solver) -> None:
    """Removes this run's snapshots of earlier iterations but the newest snapshot_keep - 1."""
    stems = {_stem(path) for path in states(solver.param.snapshot_prefix)}
    ours = {iteration_of(stem): stem for stem in stems if run_of(stem) == solver.run_id}
    earlier = [ours[i] for i in sorted(ours) if i < solver.iter]
    for stem in earlier[: len(earlier) - (solver.param.snapshot_keep - 1)]:
        for ending in ENDINGS:
            Path(stem + ending).unlink(missing_ok=True)


def restore(solver, path: str) -> str:
    """Puts a solver where save() left one and returns `path`; checks everything before it changes anything.

    Caffe's own snapshots, which have no .resume.json, give weights, history and iteration; the data begin
    anew, as in Caffe. Raises ValueError if the snapshot is damaged or another net's.
    """
    state = _read_state(path)
    model = _model_of(state, path)
    beside = resume.read(path)
    histories = _check_histories(solver, state, path)
    _check_layers(solver.net, model)
    if beside is not None:
        resume.check(solver, beside, path)
    weights.load(solver.net, model)
    for own, restored in zip(_histories(solver), histories, strict=True):
        own.copy_(torch.from_numpy(restored))
    solver.iter, solver.current_step = state.iter, state.current_step
    solver.losses.clear()
    if beside is None:
        solver.note("snapshot.py", f"{path} has no .resume.json beside it: the data begin anew", shown=True)
    else:
        resume.put(solver, beside)
    return path


def _histories(solver) -> list[torch.Tensor]:
    """Caffe's order: the first history of every blob, then the second of every blob."""
    return [param.history[i] for i in range(solver.rule.histories) for param in solver.params]


def _read_state(path: str) -> pb.SolverState:
    if path.endswith((".caffemodel", ".caffemodel.h5")):
        raise ValueError(f"{path} holds weights only; resume from its .solverstate, or give it as -weights")
    state = hdf5.read_state(path) if hdf5.is_hdf5(path) else read_binary(path, pb.SolverState)
    if not state.HasField("iter") or not state.HasField("learned_net"):
        raise ValueError(f"{path} is not a solverstate: it has no iteration or no learned_net")
    return state


def _model_of(state: pb.SolverState, path: str) -> str:
    """learned_net as written (relative to the current folder, as in Caffe), else that name beside `path`;
    of the two the one that the snapshot's .resume.json knows, for another run may have written the other."""
    beside = os.path.join(os.path.dirname(path), os.path.basename(state.learned_net))
    found = [model for model in (state.learned_net, beside) if os.path.exists(model)]
    if not found:
        raise FileNotFoundError(f"{path} continues {state.learned_net}, which is neither there nor beside it")
    wanted = (weights.read_resume(path) or {"sha256": {}})["sha256"].get(os.path.basename(state.learned_net))
    known = [model for model in found if not wanted or weights.sha256(model) == wanted]
    if not known:
        raise ValueError(
            f"{found[0]} is damaged or of another run: {weights.resume_path_of(path)} was written with a "
            f"different one; take another snapshot, or put its own beside {path}"
        )
    return known[0]


def _check_histories(solver, state: pb.SolverState, path: str) -> list:
    """The state's history blobs as arrays; ValueError unless they fit the solver's."""
    own = _histories(solver)
    if len(state.history) != len(own):
        raise ValueError(
            f"{path} is not of this net and solver type: it has {len(state.history)} history blobs, "
            f"{solver.param.type} on this net has {len(own)}"
        )
    arrays = []
    for i, (blob, ours) in enumerate(zip(state.history, own, strict=True)):
        if not shape_equals(blob, tuple(ours.shape)):
            name = solver.params[i % len(solver.params)].name
            raise ValueError(
                f"{path} is of another net: the history of {name} is {list(shape_of(blob))}, "
                f"here it is {list(ours.shape)}"
            )
        try:
            arrays.append(to_array(blob).reshape(tuple(ours.shape)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}; it is damaged") from None
    return arrays


def _check_layers(net, model: str) -> None:
    """A resume needs exactly this net's layers with blobs; a fine-tune (weights.load) needs less."""
    if hdf5.is_hdf5(model):  # owners alone
        theirs = {name for name, blobs in hdf5.read_weights(model).items() if blobs}
        ours = {param.layer for param in net.params}
    else:
        theirs = {name for name, blobs in read_layers(model) if blobs}
        ours = {layer.name for layer in net.layers if len(layer.blobs)}
    if theirs != ours:
        name = min(theirs ^ ours)
        where = "only in the file" if name in theirs else "not in the file"
        raise ValueError(f"{model} is of another net: layer {name!r} is {where}; fine-tune with -weights")
