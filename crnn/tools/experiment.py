"""experiment: trains, tests and compares the nets of a table, resumable, beside the paper's figures."""

import argparse
import os
import shlex
import sys
from pathlib import Path

import torch

from crnn import prototxt_like
from crnn.experiments import checks, manifest
from crnn.experiments.jobs import Job, jobs_of
from crnn.experiments.progress import Progress
from crnn.experiments.run import Places, iterations, run
from crnn.experiments.spec import Experiment
from crnn.experiments.table import comparison
from crnn.proto import pb
from crnn.proto.text import load
from crnn.report.comparison import markdown, write
from crnn.tools import data as data_tool
from crnn.tools import doctor, extract_features, flags

SHIPPED = Path(prototxt_like.__file__).parent
FILE = "experiment.prototxt"
EPILOG = """\
examples:
  crnn experiment list
  crnn experiment run demo/table4 --parallel 2
  crnn experiment run crnn/table2 --data downloads/ --devices 0,1 --dry-run
  crnn experiment report demo/table4

NAME is one of the list or the path of an experiment file; paths of data in it count from the working
directory. Each net and seed is a job in OUT/NET/seed_N, made by plain crnn commands; what is done is not done
again. Ctrl-C stops every training after its iteration with a snapshot, and the same command goes on from
there, as after a kill. A second machine takes a share by --seeds or --nets; copy its folders into OUT, and
`report` sees them."""


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crnn experiment",
        description=__doc__.split(": ", 1)[1],
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the experiments that come with crnn")
    for name, text in (("run", "do what is not done yet, then report"), ("report", "the figures so far")):
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument("name", metavar="NAME", help="as `crnn experiment list` shows it, or a file")
        command.add_argument("--out", type=Path, metavar="DIR", help="folder of the jobs (default runs/NAME)")
        if name == "run":
            _run_flags(command)
    return parser


def _run_flags(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, metavar="DIR", help="folder of the downloaded archives")
    command.add_argument(
        "--devices",
        type=flags.comma_list,
        default=[],
        metavar="0,1",
        help="CUDA devices, a job each; without it the CPU",
    )
    command.add_argument(
        "--parallel", type=int, default=1, metavar="N", help="jobs at once on the CPU (default 1)"
    )
    command.add_argument(
        "--threads", type=int, metavar="N", help="a job's threads (default: the cores, shared evenly)"
    )
    command.add_argument("--seeds", type=_numbers, metavar="1,2", help="only these")
    command.add_argument("--nets", type=flags.comma_list, metavar="A,B", help="only these")
    command.add_argument(
        "--dry-run", action="store_true", help="check data, memory and disk, estimate the time; start nothing"
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"wanted whole numbers as 1,2, got {text!r}") from None


def main(argv: list[str]) -> int:
    arguments = parser().parse_args(flags.normalise(argv, ("dry-run",)))
    if arguments.command == "list":
        return show_list()
    experiment = find(arguments.name)
    arguments.out = arguments.out or default_out(experiment)
    if arguments.command == "report":
        return report(experiment, arguments.out)
    flags.check_folder("--out", arguments.out)
    jobs = jobs_of(experiment, arguments.out, arguments.seeds, arguments.nets)
    places = places_of(arguments)
    if arguments.dry_run:
        return dry_run(experiment, jobs, places, arguments)
    problems = checks.missing(experiment, jobs, arguments.data)
    if problems:
        raise ValueError("\n".join(problems))
    if status := make_data(experiment, arguments):
        return status
    return train_and_test(experiment, jobs, places, arguments, argv)


def shipped() -> dict[str, Path]:
    """Name -> file."""
    return {str(path.parent.relative_to(SHIPPED)): path for path in sorted(SHIPPED.rglob(FILE))}


def find(name: str) -> Experiment:
    known = shipped()
    if name in known:
        return Experiment(known[name], name)
    path = Path(name, FILE) if Path(name).is_dir() else Path(name)
    if not path.exists():
        raise ValueError(f"there is no experiment {name!r}; known: {', '.join(known)}, or the path of a file")
    return Experiment(path, name)


def default_out(experiment: Experiment) -> Path:
    """runs/NAME for an experiment of the list, for a file runs/ its stem or its folder's name."""
    path = experiment.path
    own = path.resolve().parent.name if path.name == FILE else path.stem
    return Path("runs", experiment.name if experiment.name in shipped() else own)


def show_list() -> int:
    for name, path in shipped().items():
        message = load(path, pb.ExperimentParameter).message
        print(f"{name:<22} {message.title} ({len(message.net)} nets, seeds {len(message.seed)})")
    return 0


def places_of(arguments: argparse.Namespace) -> Places:
    for name in ("parallel", "threads"):
        count = getattr(arguments, name)
        if count is not None and count < 1:
            raise ValueError(f"--{name} must be at least 1, got {count}")
    for gpu in arguments.devices:
        flags.device(gpu, f"--devices {','.join(arguments.devices)}", "leave --devices out to run on the CPU")
    at_once = len(arguments.devices) or arguments.parallel
    threads = arguments.threads or max(1, len(os.sched_getaffinity(0)) // at_once)
    return Places(at_once, threads, arguments.devices)


def make_data(experiment: Experiment, arguments: argparse.Namespace) -> int:
    """Runs the commands of what is not there; the exit code of the first that fails."""
    for data in experiment.message.data:
        for command in data.command:
            if all(Path(path).exists() for path in data.makes):
                break
            words = experiment.words(command, arguments.data)
            program = data_tool
            if words[0] == "extract_features":
                program = extract_features
                words += ["lmdb", "GPU", arguments.devices[0]] if arguments.devices else []
            print(f"$ crnn {shlex.join(words)}", flush=True)
            if status := program.main(words[1:]):
                return status
        absent = [path for path in data.makes if not Path(path).exists()]
        if absent:
            raise ValueError(f"{experiment.name}: its commands did not make {absent[0]}")
    return 0


def train_and_test(
    experiment: Experiment, jobs: list[Job], places: Places, arguments, argv: list[str]
) -> int:
    done = [job for job in jobs_of(experiment, arguments.out) if job.done]
    made_from = {str(job): manifest.read(job.folder) for job in done}

    def begin(job: Job, gpu: str | None) -> None:
        if aside := job.place():
            print(f"{job.folder} was made by other texts: it is now {aside}", flush=True)
        content = {"data": manifest.data_of(job.experiment.net_text(job.net))}
        if tree := job.experiment.message.tree:
            content["data"][tree] = {"sha256": manifest.digest(tree)}
        if job.needed_weights:
            content["weights"] = job.digests()
        manifest.check_alike(made_from | {str(job): content})  # now, not in the report after a training
        manifest.record(job.folder, content, manifest.setup(places.threads, gpu, doctor.active()))

    arguments.out.mkdir(parents=True, exist_ok=True)
    progress = Progress(jobs)
    try:
        outcome = run(jobs, places, begin, progress)
    finally:
        progress.close()
    for job, why in outcome.busy.items():
        print(f"{job}: {why}")
    for job, why in outcome.failed.items():
        print(f"{job} failed: {why}", file=sys.stderr)
    if outcome.stopped_by:
        print(f"stopped; `crnn {shlex.join(['experiment', *argv])}` goes on from here")
        return 128 + outcome.stopped_by
    if any(job.done for job in jobs):
        report(experiment, arguments.out)
    return 1 if outcome.failed else 0


def report(experiment: Experiment, out: Path) -> int:
    line = f"crnn experiment run {shlex.quote(experiment.name)}"
    result = comparison(experiment, jobs_of(experiment, out), line)
    print(f"\n{markdown(result)}")
    print("written: " + ", ".join(map(str, write(out, result))))
    return 0


def dry_run(experiment: Experiment, jobs: list[Job], places: Places, arguments) -> int:
    """Prints what a run needs and has; 1 if it could not start."""
    problems = checks.missing(experiment, jobs, arguments.data)
    device = flags.device(places.gpus[0] if places.gpus else None)
    torch.set_num_threads(places.threads)
    waiting = [job for job in jobs if not job.done]
    costs = {}
    for name in dict.fromkeys(job.name for job in waiting):
        costs[name] = checks.cost(next(job for job in waiting if job.name == name), device, timed=True)
        one = costs[name]
        print(
            f"{name}: {one.seconds * 1000:,.1f} ms an iteration, {one.iterations:,} iterations, "
            f"{one.memory / 1e9:.2f} GB of memory, {one.disk / 1e9:.2f} GB of disk"
        )
    seconds = sum(max(costs[j.name].iterations - iterations(j), 0) * costs[j.name].seconds for j in waiting)
    data = sum(d.gigabytes for d in experiment.message.data if not all(Path(p).exists() for p in d.makes))
    disk = data * 1e9 + sum(costs[job.name].disk for job in waiting)
    memory = max((one.memory for one in costs.values()), default=0)
    memory *= 1 if places.gpus else places.parallel
    unit = "GPU hours" if places.gpus else f"hours of {places.threads} cores"
    print(
        f"{len(waiting)} of {len(jobs)} trainings to do: {seconds / 3600:.2f} {unit} without tests and "
        f"reading, {seconds / 3600 / places.parallel:.2f} h on the clock with {places.parallel} at once"
    )
    for what, needs, has in (
        ("memory", memory, checks.free_memory(device)),
        ("disk", disk, checks.free_disk(arguments.out)),
    ):
        print(f"{what}: needs {needs / 1e9:.2f} GB, free {has / 1e9:.2f} GB")
        if needs > has:
            problems.append(
                f"not enough {what}: {needs / 1e9:.2f} GB are needed, {has / 1e9:.2f} GB are free"
            )
    for problem in problems:
        print(f"cannot start: {problem}", file=sys.stderr)
    return 1 if problems else 0
