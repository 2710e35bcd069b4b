"""The .resume.json beside a snapshot: what Caffe's files do not hold and an exact resume needs."""

import hashlib
import os
from collections.abc import Iterable

import torch

from crnn.net import weights
from crnn.proto import pb
from crnn.solver import precision

#: How fields of a solver begin that change no update.
_APART = (
    *("net", "train_net", "test", "snapshot", "max_iter"),
    *("display", "average_loss", "debug_info", "solver_mode", "device_id", "compile"),
)
_PLACE = ("seed", "skip", "position")  # what a BatchLoader needs to go on with the same batches


def identity(solver) -> str:
    """Tells a run's snapshots from another's: a hash of what its updates depend on, its settings (not where
    its files lie, when it ends or what it tells), its seed and its blobs. A resumed run keeps that of the run
    it continues."""
    settings = pb.SolverParameter()
    settings.CopyFrom(solver.param)
    for field, _ in solver.param.ListFields():
        if field.name.startswith(_APART):
            settings.ClearField(field.name)
    blobs = "".join(f"{param.name} {list(param.blob.shape)}\n" for param in solver.params)
    text = settings.SerializeToString(deterministic=True) + f"{solver.seed}\n{blobs}".encode()
    return hashlib.sha256(text).hexdigest()[:16]


def carried(solver) -> list[list[dict[str, list]]]:
    """What every process's recurrent layers carry to the next batch: process, net, layer."""
    found = [
        {layer.name: solver.ranks.gather(layer.carried) for layer in recurrent(net)} for net in nets(solver)
    ]
    return [
        [{name: of_all[rank].tolist() for name, of_all in net.items()} for net in found]
        for rank in range(solver.ranks.count)
    ]


def content(solver, states: list[list[dict]], sums: dict[str, str]) -> dict:
    """What save() writes; states: `carried`; sums: sha256 by file."""
    return {
        "run": solver.run_id,
        "seed": solver.seed,
        "losses": list(solver.losses),
        "loss_scale": solver.precision.state(),
        "data": [
            {layer.name: {key: getattr(layer.loader, key) for key in _PLACE} for layer in _readers(net)}
            for net in nets(solver)
        ],
        "states": states[0],
        "states_of_other_ranks": states[1:],
        "sha256": {os.path.basename(file): digest for file, digest in sums.items()},
    }


def read(path: str) -> dict | None:
    """The .resume.json beside a solverstate, once this proved to be the one it was written with."""
    resume = weights.read_resume(path)
    if resume:
        weights.check_sum(path)
        if not _is_whole(resume):
            raise ValueError(
                f"{weights.resume_path_of(path)} is damaged; remove it to let the data begin anew"
            )
    return resume


def check(solver, resume: dict, path: str) -> None:
    """Raises ValueError unless the solver's recurrent layers can go on from what theirs carried."""
    for layer, values in _states(solver, resume):
        S, _, D = layer.carried.shape
        if not _fits(values, S, D):
            raise ValueError(
                f"{weights.resume_path_of(path)} is of another net: layer {layer.name!r} carries {S} states "
                f"of {D} channels, there it does not; remove the file to let the data begin anew"
            )


def put(solver, resume: dict) -> None:
    """Puts it into a solver, both checked."""
    given = solver.param.random_seed
    if given >= 0 and given != resume["seed"]:
        text = f"goes on with the snapshot's seed {resume['seed']}, not with random_seed {given}"
        solver.note("resume.py", text, shown=True, severity="W")
    solver.run_id, solver.seed = resume.get("run", solver.run_id), resume["seed"]
    solver.losses.extend(resume["losses"])
    solver.precision.restore(resume.get("loss_scale", {}))
    for net, places in zip(nets(solver), resume["data"], strict=False):
        for layer in _readers(net):
            for key, value in places.get(layer.name, {}).items():
                setattr(layer.loader, key, value)
            layer.loader.seek(layer.loader.position)
    for layer, values in _states(solver, resume):
        layer.carried = layer.carried.new_tensor(values)


def nets(solver):
    return [solver.net, *solver.test_nets]


def recurrent(net):
    """The layers that hand a state from batch to batch (RNN, LSTM)."""
    return [layer for layer in net.layers if hasattr(layer, "carried")]


def _readers(net):
    """The layers that read records one after the other."""
    return [layer for layer in net.layers if hasattr(layer, "loader")]


def _ranks_states(resume: dict) -> list:
    """Of each process: of each net: values by layer."""
    return [resume.get("states", []), *resume.get("states_of_other_ranks", [])]


def _states(solver, resume: dict) -> Iterable[tuple[torch.nn.Module, list | None]]:
    """Each recurrent layer of this process and what it carried; None if it is not there."""
    of_each = _ranks_states(resume)
    own = of_each[solver.ranks.rank if solver.ranks.rank < len(of_each) else 0]
    for net, states in zip(nets(solver), own, strict=False):
        for layer in recurrent(net):
            yield layer, states.get(layer.name)


def _is_whole(resume: dict) -> bool:
    """Whether what is put into the solver and its loaders is there and of its type."""
    try:
        places = [place for net in resume["data"] for place in net.values()]
        numbers = [resume["seed"], *(number for place in places for number in place.values())]
        states = [net for process in _ranks_states(resume) for net in process]
        return (
            all(place.keys() <= set(_PLACE) for place in places)
            and all(type(number) is int and 0 <= number < 1 << 63 for number in numbers)
            and type(resume.get("run", "")) is str
            and all(type(loss) is float for loss in resume["losses"])
            and all(type(net) is dict for net in states)
            and precision.is_state(resume.get("loss_scale", {}))
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _fits(values, states: int, channels: int) -> bool:
    """Whether `values` are floats [states, N, channels] in lists, of any N: batches may differ in it."""
    if type(values) is not list or len(values) != states or not all(type(one) is list for one in values):
        return False
    rows = [row for one in values for row in one]
    return len({len(one) for one in values}) == 1 and all(
        type(row) is list and len(row) == channels and all(type(value) is float for value in row)
        for row in rows
    )
