"""An experiment's figures: what its finished jobs scored, beside the paper's."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence

import numpy as np

from crnn.experiments import anytime, manifest, results
from crnn.experiments.checks import without_data
from crnn.experiments.jobs import Job
from crnn.experiments.measures import score
from crnn.experiments.overlays import overlays
from crnn.experiments.spec import Experiment, Way
from crnn.experiments.statistics import Mean, mean, paired
from crnn.experiments.steps import CURVE, SOLVER
from crnn.experiments.told import told
from crnn.net.net import Net
from crnn.net.torch_weights import is_torch
from crnn.proto import pb
from crnn.proto.blobs import read_binary, shape_of
from crnn.proto.text import dump
from crnn.proto.upgrade import upgrade_net
from crnn.report.anytime import Answer
from crnn.report.comparison import Comparison, Cost, Figure, Row, Table
from crnn.solver.rows import read_rows

INTERVALS = (
    "Intervals are 95 % intervals of the mean over the seeds, by Student's t. Differences are taken seed by "
    "seed: nets of one seed see the same images in the same order, cut and mirrored alike. The intervals "
    "speak of other seeds on these test records."
)
SEVERAL = "Of {n} such intervals, about {k:.1f} would miss zero by chance if no net differed from {baseline}."


def comparison(experiment: Experiment, jobs: Sequence[Job], command: str) -> Comparison:
    """What a report shows of the finished ones of `jobs`.

    Raises ValueError if none is finished, or if they do not belong together: trained or tested on other data.
    """
    done = [job for job in jobs if job.done]
    if not done:
        where = jobs[0].out
        raise ValueError(f"no job of {experiment.name} is finished in {where}: crnn experiment run it first")
    manifest.check_alike({str(job): manifest.read(job.folder) for job in done})
    tables = _tables(experiment, done)
    alike = [job for job in _first_of_each(done) if job.seed == done[0].seed]
    message, baseline = experiment.message, experiment.message.baseline
    notes = [INTERVALS]
    compared = sum(not math.isnan(row.difference.half) for table in tables for row in table.rows)
    if compared > 1:
        notes.append(SEVERAL.format(n=compared, k=compared / 20, baseline=baseline))
    if message.note:
        notes.append(message.note)
    return Comparison(
        title=message.title,
        source=message.source or "paper",
        baseline=baseline,
        notes=notes,
        tables=tables,
        costs=[_cost([job for job in done if job.name == one.name]) for one in _first_of_each(done)],
        commands=[*dict.fromkeys(_commands(experiment)), command],
        setup=_setup(done),
        overlays=overlays(alike),
        told=told(alike),
        answers=_answers(done) if message.cost_curve else [],
        progress=f"{len(done)} of {len(jobs)} trainings and tests are done.",
        solvers={
            job.name: (job.folder / SOLVER).read_text(encoding="utf-8")
            for job in _first_of_each(done)
            if (job.folder / SOLVER).exists()
        },
    )


def _commands(experiment: Experiment) -> list[str]:
    """What makes the data; {data} stands for the folder of the downloads."""
    lines = [line for data in experiment.message.data for line in data.command]
    return [
        f"crnn {shlex.join(experiment.words(line, None))}".replace("'{data}'", "{data}") for line in lines
    ]


def _tables(experiment: Experiment, done: Sequence[Job]) -> list[Table]:
    scores: dict[Way, dict[str, dict[int, float]]] = {way: {} for way in experiment.ways}
    for job in done:
        evaluations = {views: job.scores(views) for views in experiment.message.views}
        for way in experiment.ways:
            figure = score(evaluations[way.views], way.measure)
            scores[way].setdefault(job.name, {})[job.seed] = figure
    return [Table(str(way), _rows(experiment, way, scores[way])) for way in experiment.ways]


def _rows(experiment: Experiment, way: Way, scores: dict[str, dict[int, float]]) -> list[Row]:
    rows = []
    published = {net.name: experiment.paper(net, way) for net in experiment.nets}
    for net in experiment.nets:
        own, row = scores.get(net.name, {}), Row(net.name, Figure(), {}, Figure())
        row.ours, row.seeds = _figure(mean(list(own.values()))), own
        if published[net.name] is not None:
            row.paper = published[net.name]
        baseline = net.baseline or experiment.message.baseline
        if baseline and net.name != baseline:
            row.baseline = net.baseline
            row.difference = _figure(paired(*_alike(own, scores.get(baseline, {}))))
            if published.get(baseline) is not None:
                row.paper_difference = row.paper - published[baseline]
        rows.append(row)
    return rows


def _alike(first: dict[int, float], second: dict[int, float]) -> tuple[dict, dict]:
    """Figures by seed; one that was taken once, as of a net that is not trained, stands for every seed."""
    if len(second) == 1 < len(first):
        return first, dict.fromkeys(first, next(iter(second.values())))
    if len(first) == 1 < len(second):
        return dict.fromkeys(second, next(iter(first.values()))), second
    return first, second


def _figure(m: Mean) -> Figure:
    return Figure(m.value, m.half, m.n)


def _cost(jobs: Sequence[Job]) -> Cost:
    """Of one net's jobs."""
    net = jobs[0].net
    cost = Cost(net.name, net.about, _parameters(jobs[0]), 0, math.nan, math.nan)
    if not jobs[0].trained:
        return cost
    cost.iterations = jobs[0].solver().max_iter
    logs = [job.folder / f"{job.name}.jsonl" for job in jobs]
    rows = [read_rows(log) if log.exists() else [] for log in logs]
    if all(rows):  # a solver without `display` and tests leaves none
        cost.seconds = float(np.mean([max(row["seconds"] for row in one) for one in rows]))
        speeds = [value for one in rows for value in results.speed(one).values]
        cost.images_per_second = float(np.median(speeds)) if speeds else math.nan
    return cost


def _answers(done: Sequence[Job]) -> list[Answer]:
    """Each answer of each net, over its seeds."""
    found = []
    for one in _first_of_each(done):
        if one.net.HasField("svm"):  # it has no scores in the net
            continue
        seeds = [anytime.load(job.folder / CURVE) for job in done if job.name == one.name]
        for points in zip(*seeds, strict=True):
            error = mean([100 * (1 - point.accuracy) for point in points])
            seconds = float(np.median([point.seconds for point in points]))
            cost = points[0].multiply_adds / 1e6, 1000 * seconds
            found.append(Answer(one.name, points[0].blob, error.value, error.half, *cost))
    return found


def _parameters(job: Job) -> int:
    """The values of all blobs, a shared one once."""
    if len(job.tested) > 1 or is_torch(job.tested[0]):  # files that hold less or more than the net
        net = Net(dump(without_data(job.experiment.net_text(job.net), job.experiment)), phase="TEST")
        return sum(param.parameter.numel() for param in net.params)
    stored = read_binary(job.tested[0], pb.NetParameter)
    upgrade_net(stored)
    sizes = {}
    for layer in stored.layer:
        for i, blob in enumerate(layer.blobs):
            shared = layer.param[i].name if i < len(layer.param) else ""
            sizes[shared or (layer.name, i)] = math.prod(shape_of(blob))
    return sum(sizes.values())


def _setup(done: Sequence[Job]) -> dict[str, str]:
    """What the jobs ran on; where they differ, each value with how many runs had it."""
    manifests, setup = [manifest.read(job.folder) for job in done], {}
    for path, what in sorted({p: w for m in manifests for p, w in m["data"].items()}.items()):
        setup[path] = ", ".join(f"{key} {value}" for key, value in what.items())
    runs = [run for m in manifests for run in m["runs"]]
    for key in dict.fromkeys(key for run in runs for key in run):
        counts = Counter(run.get(key, "not said") for run in runs)
        values = [f"{value} ({n} runs)" for value, n in counts.most_common()]
        setup[key] = "; ".join(values) if len(counts) > 1 else next(iter(counts))
    return setup


def _first_of_each(done: Sequence[Job]) -> list[Job]:
    """One job of each net, in their order."""
    first = {job.name: job for job in reversed(done)}
    return [first[net.name] for net in done[0].experiment.nets if net.name in first]
