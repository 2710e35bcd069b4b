"""The processes that train one net together, started by torchrun: what they share and what they agree on.

Caffe: src/caffe/parallel.cpp. Each has the whole net and reads its share of the records; torch's
DistributedDataParallel averages the gradients, through NCCL or gloo. All else goes through gloo, on the CPU.
"""

import contextlib
import inspect
import os
from collections.abc import Iterator

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from crnn.net.needs import backward_needs
from crnn.net.net import Net

EXCHANGE = ("gloo", "NCCL", "Connection closed by peer")  # words of its errors, where they are no DistError
SYNC_BUFFERS = "forward_sync_buffers"
if SYNC_BUFFERS not in inspect.signature(DistributedDataParallel).parameters:
    SYNC_BUFFERS = "broadcast_buffers"  # its name before torch 2.12
REQUESTS = (None, "snapshot", "stop")  # what several ask for at once: the last of these


class Ranks:
    """This process among `count`; alone without a process group.

    rank: which it is; rank 0 speaks and writes for all.
    """

    def __init__(self):
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.count = distributed.get_world_size() if joined else 1

    def wrap(self, net: Net) -> "Net | Averaged":
        """What runs `net` so that its gradients are those of all processes; the nets become rank 0's."""
        return net if self.count == 1 else Averaged(net)

    def split(self, net: Net) -> None:
        """Each process reads its records of the batches that the net reads."""
        for loader in loaders(net):
            loader.split(self.rank, self.count)

    def deal(self, net: Net) -> None:
        """Each process reads its batches of those that the net reads."""
        for loader in loaders(net):
            loader.deal(self.rank, self.count)

    def passes(self, run: "Net | Averaged", count: int) -> Iterator[int]:
        """0 .. count - 1, around passes of which the last backward alone averages what all have summed."""
        for i in range(count):
            sums_only = self.count > 1 and i < count - 1
            with run.parallel.no_sync() if sums_only else contextlib.nullcontext():
                yield i

    def mean(self, values: list[float]) -> list[float]:
        """The mean over the processes of each value."""
        if self.count == 1:
            return values
        return (self.sum(torch.tensor(values, dtype=torch.float64)) / self.count).tolist()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes of float64 [...]; exact where all but one give zeros."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def agree(self, request: str | None) -> str | None:
        """What any process was asked for, the same in all."""
        if self.count == 1:
            return request
        asked = torch.tensor(REQUESTS.index(request))
        distributed.all_reduce(asked, distributed.ReduceOp.MAX)
        return REQUESTS[asked]

    def of_first(self, value: int) -> int:
        """Rank 0's value."""
        if self.count == 1:
            return value
        shared = torch.tensor(value)
        distributed.broadcast(shared, 0)
        return int(shared)

    def gather_rows(self, rows: dict[int, list[float]], count: int) -> list[list[float]]:
        """Rows 0 .. count - 1, of which each process has some; all of one length."""
        if self.count == 1:
            return [rows[i] for i in range(count)]
        width = torch.tensor(max(map(len, rows.values()), default=0))
        distributed.all_reduce(width, distributed.ReduceOp.MAX)
        table = torch.zeros(count, int(width), dtype=torch.float64)
        for i, row in rows.items():
            table[i] = torch.tensor(row, dtype=torch.float64)
        return self.sum(table).tolist()

    def gather(self, values: Tensor) -> list[Tensor]:
        """Each process's `values`, of one shape and type in all, on the CPU."""
        own = values.detach().cpu().contiguous()
        every = [torch.empty_like(own) for _ in range(self.count)] if self.count > 1 else [own]
        if self.count > 1:
            distributed.all_gather(every, own)
        return every

    def copy_statistics(self, net: Net) -> None:
        """Gives all processes rank 0's running sums, as BatchNorm's, which each moves by its own batches."""
        for param in net.params if self.count > 1 else []:
            if param.statistics:
                distributed.broadcast(param.parameter.detach(), 0)


class Averaged:
    """A net whose backward leaves the mean over the processes in the blobs' gradients."""

    def __init__(self, net: Net):
        self.net = net
        needs = backward_needs(net.nodes, net.force_backward)
        layers = [node.layer for node, need in zip(net.nodes, needs, strict=True) if need.layer]
        reached = {id(blob) for layer in layers for blob in layer.parameters()}
        learned = [param.parameter for param in net.params if param.parameter.requires_grad]
        self.parallel = DistributedDataParallel(
            _Loss(net),
            gradient_as_bucket_view=True,
            find_unused_parameters=any(id(blob) not in reached for blob in learned),
            **{SYNC_BUFFERS: False},  # Net.like, which is empty
        )

    def __call__(self, **blobs) -> dict[str, Tensor]:
        self.parallel(**blobs)
        return {name: self.net.blobs[name] for name in self.net.outputs if name in self.net.blobs}


class _Loss(torch.nn.Module):
    """Gives nothing but the loss: what a forward gives, torch takes to be part of the backward."""

    def __init__(self, net: Net):
        super().__init__()
        self.net = net

    def forward(self, **blobs) -> Tensor:
        self.net(**blobs)
        return self.net.loss()


def loaders(net: Net) -> list:
    """What the net's layers read records with."""
    return [layer.loader for layer in net.layers if hasattr(layer, "loader")]


def bad_images(net: Net) -> list:
    """What the net's loaders know of images they could not decode (crnn.data.bad_images)."""
    return [loader.bad_images for loader in loaders(net) if hasattr(loader, "bad_images")]


def started_together() -> bool:
    """Whether torchrun, or what sets the same variables, started this process with others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def join(device: torch.device) -> None:
    """Makes this process one of those started together. Raises ValueError where torch cannot do that here."""
    if not distributed.is_available():
        raise ValueError("this torch is built without torch.distributed: train in one process")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("gloo" if device.type == "cpu" else "cpu:gloo,cuda:nccl")


def lost(error: RuntimeError) -> str:
    """What a failed exchange between the processes means, in a sentence; any other error is raised again."""
    text = str(error)
    if not isinstance(error, distributed.DistError) and not any(word in text for word in EXCHANGE):
        raise error
    return (
        f"another process ended or is out of reach: its own message says why ({text.splitlines()[0][:200]}); "
        "go on from the last snapshot with -snapshot"
    )


def leave() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
