"""train: trains a net by a solver prototxt, with Caffe's flags, log lines and snapshots."""

import argparse
import os
import sys
from contextlib import nullcontext

import torch

from crnn.host_memory import keep_freed
from crnn.proto import pb
from crnn.proto.upgrade import read_solver
from crnn.solver import ranks
from crnn.solver.events import Note
from crnn.solver.log import listeners
from crnn.solver.precision import DTYPES
from crnn.solver.prefix import alone
from crnn.solver.schedule import MODES
from crnn.solver.signals import EFFECTS, Signals
from crnn.solver.snapshot import states
from crnn.solver.solver import Solver
from crnn.tools import flags

LATEST = "latest"
EXAMPLES = """examples:
  crnn train -solver solver.prototxt
  crnn train -solver solver.prototxt -snapshot crnn_iter_10000.solverstate     (goes on from there)
  crnn train -solver solver.prototxt -weights bvlc_alexnet.caffemodel -gpu 0   (fine-tunes)
  crnn train -solver solver.prototxt -gpu all                                  (one process a GPU)
  torchrun --nnodes 4 --nproc-per-node 8 ... -m crnn train -solver solver.prototxt -gpu all

Beside the snapshots stand PREFIX.jsonl, PREFIX_train.csv and PREFIX_test.csv; on a terminal also PREFIX.log.
A snapshot that another run wrote under the same name is renamed NAME.1, not overwritten; so are these rows
where training goes on from an earlier snapshot than the last. A prefix is one process's at a time.
Ctrl-C or kill stops after the current iteration with a snapshot; kill -HUP or -USR1 makes one and goes on.

Several processes each train on their share of the records with the batch size of the prototxt, as in Caffe;
the gradients are averaged, base_lr stays as it is written. Rank 0 logs and writes."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn train",
        description="Train a net, or fine-tune one, as `caffe train` does.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--solver", required=True, metavar="FILE", help="the solver prototxt")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--snapshot",
        metavar="FILE",
        help=f"a .solverstate to resume from; {LATEST}: the newest that is whole of the run that wrote last, "
        "if there is any",
    )
    start.add_argument(
        "--weights",
        type=flags.comma_list,
        metavar="A,B",
        help=".caffemodel files to start from, in this order",
    )
    parser.add_argument(
        "--gpu", metavar="A,B", help="CUDA devices, or all; without it solver_mode of the solver decides"
    )
    parser.add_argument("--phase", choices=("TRAIN", "TEST"), help="taken and not used, as in Caffe")
    parser.add_argument("--level", type=int, default=0, help="level of the train net's state")
    parser.add_argument(
        "--stage", type=flags.comma_list, default=[], metavar="A,B", help="stages of the train net's state"
    )
    parser.add_argument("--precision", choices=DTYPES, help="in place of the solver's precision")
    parser.add_argument("--compile", choices=MODES, help="a mode of torch.compile for the nets")
    parser.add_argument("--sigint-effect", choices=EFFECTS, default="stop", help="what Ctrl-C does")
    parser.add_argument("--sighup-effect", choices=EFFECTS, default="snapshot", help="what SIGHUP does")
    return parser


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(flags.normalise(argv))
    keep_freed()
    for flag in ("solver", "snapshot", "weights"):
        if getattr(arguments, flag) in ("", []):
            raise ValueError(f"--{flag} is empty: give a file")
    document = read_solver(arguments.solver)
    amend(document.message, arguments)
    devices = devices_of(document.message, arguments.gpu)
    if not ranks.started_together():
        if len(devices) > 1:
            start_together(len(devices), argv)
        return train(document, arguments, devices[0])
    device = own_device(devices)
    ranks.join(device)
    try:
        return train(document, arguments, device)
    except RuntimeError as error:
        raise OSError(ranks.lost(error)) from error
    finally:
        ranks.leave()


def start_together(count: int, argv: list[str]) -> None:
    """Becomes torchrun with `count` processes of this command."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *launch, "-m", "crnn", "train", *argv])


def train(document, arguments: argparse.Namespace, device: torch.device) -> int:
    effects, together = (arguments.sigint_effect, arguments.sighup_effect), ranks.started_together()
    first, prefix = not ranks.Ranks().rank, document.message.snapshot_prefix
    with Signals(*effects, patient=together) as signals, alone(prefix) if first else nullcontext():
        logs = listeners(prefix) if first else []
        for log in logs:
            log(Note("caffe.cpp:197", flags.device_note(device)))
        solver = Solver(document, logs, signals.take, device)
        if arguments.snapshot == LATEST:
            solver.restore_latest()
        elif arguments.snapshot:
            solver.note("caffe.cpp:242", f"Resuming from {arguments.snapshot}", shown=True)
            solver.restore(arguments.snapshot)
        solver.note("caffe.cpp:239", "Starting Optimization")
        solver.solve()
        solver.note("caffe.cpp:250", "Optimization Done.")
    return 128 + signals.stopped_by if solver.stopped and signals.stopped_by else 0


def amend(param: pb.SolverParameter, arguments: argparse.Namespace) -> None:
    """Puts the flags into the solver's text, as Caffe's `train` does."""
    param.train_state.level = arguments.level
    param.train_state.stage.extend(arguments.stage)
    for field in ("precision", "compile"):
        if getattr(arguments, field):
            setattr(param, field, getattr(arguments, field))
    if arguments.snapshot and (arguments.snapshot != LATEST or states(param.snapshot_prefix)):
        param.ClearField("weights")
    elif arguments.weights:
        param.weights[:] = arguments.weights


def devices_of(param: pb.SolverParameter, gpu: str | None) -> list[torch.device]:
    """The devices of the -gpu flag, else of `solver_mode: GPU`; a silent text means the CPU."""
    if gpu is None and param.HasField("solver_mode") and param.solver_mode == pb.SolverParameter.GPU:
        asked = f"solver_mode: GPU with device_id: {param.device_id}"
        return flags.devices(str(param.device_id), asked, "write solver_mode: CPU to train without one")
    return flags.devices(gpu)


def own_device(devices: list[torch.device]) -> torch.device:
    """Of the devices of this machine, the one for this process. ValueError where there are too few."""
    if devices[0].type == "cpu":
        return devices[0]
    place = int(os.environ.get("LOCAL_RANK", 0))
    if place >= len(devices):
        raise ValueError(
            f"process {place} of this machine has no GPU left of {len(devices)}: start as many as there are, "
            "and give -gpu all"
        )
    return devices[place]
