"""What a run needs, found out before it starts: data, memory, disk, and how long it would take."""

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from crnn.data.databases import kind
from crnn.data.records import Records
from crnn.experiments.jobs import KEPT, Job
from crnn.experiments.spec import Experiment
from crnn.net.net import Net
from crnn.proto import pb
from crnn.proto.text import dump
from crnn.solver.solver import Solver

FLOAT = 4  # bytes
TIMED = 5  # iterations, after one that warms up


@dataclass
class Cost:
    """Of one job: seconds an iteration, iterations, bytes of memory and of disk."""

    seconds: float
    iterations: int
    memory: int
    disk: int


def missing(experiment: Experiment, jobs: Sequence[Job], downloads: Path | None) -> list[str]:
    """Sentences about what has to be there first: downloads, trained weights, files that no command makes."""
    found = []
    for data in experiment.message.data:
        wants = any("{data}" in command for command in data.command)
        if not wants or all(Path(path).exists() for path in data.makes):
            continue
        if downloads is None:
            words = shlex.split(data.command[0])
            names = " ".join(words[: 3 if words[1] == "convert" else 2])
            found.append(
                f"{data.makes[0]} is not there: give --data DIR, the folder of the downloads that "
                f"`crnn {names} --help` lists"
            )
        elif not downloads.is_dir():
            found.append(f"--data {downloads} is no folder")
    made = {path for data in experiment.message.data for path in data.makes}
    for data in experiment.message.data:
        if not all(Path(path).exists() for path in data.makes):
            words = [word for command in data.command for word in experiment.words(command, downloads)]
            gone = [word for word in words if _is_net(word) and word not in made and not Path(word).exists()]
            found += [f"{file}, by which {data.makes[0]} is made, is not there" for file in gone]
    for path in sorted({path for job in jobs for path in read_by(job)} - made):
        if not Path(path).exists():
            found.append(
                f"{path}, which nets read, is not there, and no command of {experiment.name} makes it"
            )
    for job in jobs:
        if job.source and job.source not in jobs and not job.source.done:
            how = "starts from the weights" if job.net.from_net else "is trained on the answers"
            found.append(f"{job} {how} of {job.source}, which is not done: run it too")
    for path in sorted({job.weights for job in jobs if job.weights and not job.net.from_net} - made):
        if not Path(path).exists():
            found.append(f"{path}, the weights that nets start from, is not there")
    return list(dict.fromkeys(found))


def _is_net(word: str) -> bool:
    return word.endswith((".caffemodel", ".pth", ".prototxt"))


def read_by(job: Job) -> set[str]:
    """The databases and mean files of a job's net, and what it is tested by."""
    layers = job.experiment.net_text(job.net).layer
    fields = [(one.data_param, one.transform_param) for one in layers]
    own = {path for data, t in fields for path in (data.source, data.label_source, t.mean_file)}
    return (own | {job.experiment.message.tree, job.net.answers.records}) - {""}


def data_are_here(job: Job) -> bool:
    return all(Path(path).exists() for path in read_by(job))


def without_data(net: pb.NetParameter, experiment: Experiment) -> pb.NetParameter:
    """The net with DummyData of the same shapes in the place of its Data layers."""
    copy = pb.NetParameter()
    copy.CopyFrom(net)
    for layer in copy.layer:
        if layer.type != "Data":
            continue
        crop, batch = layer.transform_param.crop_size, layer.data_param.batch_size
        C, H, W = record_shape(layer.data_param.source, experiment)
        h, w = crop or H, crop or W
        labels = (batch, 1, h, w) if layer.data_param.label_source else (batch,)
        layer.type = "DummyData"
        shapes = [(batch, C, h, w), labels][: len(layer.top)]
        for shape in shapes:
            layer.dummy_data_param.shape.add(dim=shape)
            layer.dummy_data_param.data_filler.add(type="constant")
    return copy


def record_shape(path: str, experiment: Experiment) -> tuple[int, ...]:
    """[C, H, W] of a database's records: its first one's, or what the experiment says of one to be made."""
    if kind(path):
        return Records(path).shape
    for data in experiment.message.data:
        if path in data.makes and data.record.dim:
            return tuple(data.record.dim)
    raise ValueError(f"{path} is not there, and {experiment.name} does not say the shape of its records")


def cost(job: Job, device: torch.device, timed: bool) -> Cost:
    """Of one job, by its own nets on generated images; `seconds` is 0 unless `timed`."""
    net = without_data(job.experiment.net_text(job.net), job.experiment)
    if not job.trained:
        built = Net(dump(net), phase="TEST")
        return Cost(0.0, 0, FLOAT * (_numbers(built) + _values(built)), 0)
    solver = Solver(_alone(job, net), device=device)
    _fill_statistics(solver.net)
    values = _values(solver.net)
    histories = 1 + solver.rule.histories  # and the gradients
    seconds = _time(solver, device) if timed else 0.0
    iterations, every = job.solver().max_iter, job.solver().snapshot
    kept = min(KEPT + 1, iterations // every + 1) if every else 1
    return Cost(
        seconds,
        iterations,
        FLOAT * (_numbers(solver.net) * 2 + values * (1 + histories)),
        FLOAT * values * kept * (1 + solver.rule.histories),
    )


def _alone(job: Job, net: pb.NetParameter) -> pb.SolverParameter:
    """The job's solver without tests, displays and files."""
    param = job.solver()
    for field in ("net", "test_iter", "test_interval", "snapshot", "display", "weights", "test_state"):
        param.ClearField(field)
    param.snapshot_after_train = False
    param.net_param.CopyFrom(net)
    return param


@torch.no_grad()
def _fill_statistics(net: Net) -> None:
    """Variance 1 where weights would bring a BatchNorm's: with its own 0 a deep net's numbers overflow."""
    for layer in net.layers:
        if layer.type == "BatchNorm":
            for blob in list(layer.blobs)[1:]:
                blob.fill_(1)


def _time(solver: Solver, device: torch.device) -> float:
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    solver.step(1)
    begun = now()
    solver.step(TIMED)
    return (now() - begun) / TIMED


def _values(net: Net) -> int:
    return sum(param.parameter.numel() for param in net.params)


def _numbers(net: Net) -> int:
    """Of all blobs that layers make."""
    return sum(torch.Size(shape).numel() for node in net.nodes for shape in node.layer.top_shapes)


def free_memory(device: torch.device) -> int:
    """Bytes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) << 10
    raise OSError("/proc/meminfo has no MemAvailable")


def free_disk(path: Path) -> int:
    """Bytes, on the disk that `path` is or will be on."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free
