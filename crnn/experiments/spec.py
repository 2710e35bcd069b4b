"""An experiment's file, read and checked: nets, data, solver, seeds, ways of testing, the paper's figures."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from crnn.data.transformer import VIEWS
from crnn.experiments.measures import MEASURES
from crnn.net.insert import insert
from crnn.proto import pb
from crnn.proto.text import Document, PrototxtError, dump, load, parse
from crnn.proto.upgrade import read_net, read_solver
from crnn.proto.variants import freeze, remove_layers, replace, replace_layers

DATA_COMMANDS = ("data", "extract_features")  # that make databases
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")  # of a net: it names a folder


@dataclass(frozen=True)
class Way:
    """How a net is scored: a measure with 1 or 10 views."""

    measure: str
    views: int

    def __str__(self) -> str:
        return f"{MEASURES[self.measure].title}, {self.views} view{'s' if self.views > 1 else ''}"


class Experiment:
    """The file at `path`; `name` is what the user calls it.

    Raises OSError, or PrototxtError with all problems of the file and of the texts it names.
    """

    def __init__(self, path: Path, name: str):
        self.path, self.name = path, name
        self.document: Document = load(path, pb.ExperimentParameter)
        self.message = self.document.message
        self.nets = list(self.message.net)
        self.seeds = list(self.message.seed)
        problems = [f"{self.document.where(*place)}: {text}" for place, text in _problems(self)]
        if problems:
            raise PrototxtError(problems, self.document)

    @property
    def ways(self) -> list[Way]:
        return [Way(measure, views) for views in self.message.views for measure in self.message.measure]

    def net(self, name: str):
        return next(net for net in self.nets if net.name == name)

    def seeds_of(self, net) -> list[int]:
        """All seeds; the first alone where nothing is trained, so that every seed would give the same."""
        many = is_trained(net) or net.from_net or "{seed}" in net.weights
        return self.seeds if many else self.seeds[:1]

    def paper(self, net, way: Way) -> float | None:
        """The published figure in percent, if there is one."""
        figures = [f.value for f in net.paper if (f.measure, f.views) == (way.measure, way.views)]
        return round(figures[0], 4) if figures else None  # without float32's tail

    def net_text(self, net) -> pb.NetParameter:
        """The net's effective definition."""
        message = pb.NetParameter()
        message.CopyFrom(read_net(self.path.parent / net.net).message)
        remove_layers(message, net.without)
        replace_layers(message, net.layer)
        freeze(message, net.frozen)
        if net.insert:
            # A net that is read gets lines of its own, for messages about layers that cannot take an L-RNN.
            document = parse(dump(message), pb.NetParameter, f"net {net.name!r}")
            message, _ = insert(document, dict(entry.rpartition(":")[::2] for entry in net.insert))
        return message

    def words(self, command: str, downloads: Path | None) -> list[str]:
        """Of a data command; {data} is left without `downloads`, their folder."""
        places = {"{data}": str(downloads or "{data}"), "{here}": str(self.path.parent)}
        words = shlex.split(command)
        for name, path in places.items():
            words = [word.replace(name, path) for word in words]
        return words

    def solver_text(self, net) -> pb.SolverParameter:
        """The net's effective solver, without what a job adds."""
        message = pb.SolverParameter()
        message.CopyFrom(read_solver(self.path.parent / (net.solver or self.message.solver)).message)
        replace(message, self.message.solver_param)
        replace(message, net.solver_param)
        for field in ("net", "train_net", "test_net", "net_param", "train_net_param", "test_net_param"):
            message.ClearField(field)
        return message


def is_trained(net) -> bool:
    """Whether a net of the experiment is trained, rather than used as its `weights` are."""
    return not (net.HasField("svm") or net.only_test)


def _problems(experiment: Experiment):
    """((path in the message), sentence) of everything that is wrong."""
    message = experiment.message
    for field in ("title", "net", "seed", "views", "measure"):
        if not getattr(message, field):
            yield (), f"an experiment needs {field}"
    for field in ("seed", "views", "measure"):
        values = list(getattr(message, field))
        for i, value in enumerate(values):
            if value in values[:i]:
                yield (field, i), f"{field} {value} is given twice"
    for i, views in enumerate(message.views):
        if views not in (1, VIEWS):
            yield ("views", i), f"views must be 1 or {VIEWS}, got {views}"
    for i, measure in enumerate(message.measure):
        if measure not in MEASURES:
            yield ("measure", i), f"unknown measure {measure!r}; known: {', '.join(MEASURES)}"
    if message.tree and list(message.views) != [1]:
        yield ("tree",), "label paths are tested with 1 view: views must be 1"
    if message.tree and message.cost_curve:
        yield ("cost_curve",), "label paths have no cost curve: leave out `tree` or cost_curve"
    names = [net.name for net in message.net]
    if message.HasField("baseline") and message.baseline not in names:
        yield ("baseline",), f"baseline {message.baseline!r} is none of the nets {', '.join(names)}"
    for i, net in enumerate(message.net):
        if net.name in names[:i]:
            yield ("net", i, "name"), f"the name {net.name!r} is taken by an earlier net"
        for place, text in _net_problems(experiment, net):
            yield ("net", i, *place), f"net {net.name!r}: {text}"
    for i, data in enumerate(message.data):
        yield from ((("data", i, *place), text) for place, text in _data_problems(data))


def _net_problems(experiment: Experiment, net):
    names = [one.name for one in experiment.nets]
    if net.baseline and (net.baseline not in names or not experiment.message.baseline):
        yield (
            ("baseline",),
            f"{net.baseline!r} must be one of {', '.join(names)}, and the experiment have a baseline too",
        )
    if not _NAME.fullmatch(net.name):
        yield ("name",), "a net's name is made of letters, digits, _ . + -"
    trained = is_trained(net)
    if not trained and not (net.weights or net.from_net):
        yield (), "nothing is trained, so it needs `weights` or `from_net`"
    if net.from_net:
        before = [one.name for one in experiment.nets[: experiment.nets.index(net)] if is_trained(one)]
        if net.from_net not in before:
            yield ("from_net",), f"{net.from_net!r} is no net that is trained before it: {', '.join(before)}"
        if net.weights or net.HasField("svm"):
            yield ("from_net",), "weights and svm do not go with from_net"
    if net.HasField("svm") and not (net.svm.blob and net.svm.c):
        yield ("svm",), "an svm needs a `blob` of the net and values of `c`"
    if min(net.svm.c, default=1) <= 0 or net.svm.folds < 2:
        yield ("svm",), "every c must be positive, and folds at least 2"
    for i, figure in enumerate(net.paper):
        if (figure.measure, figure.views) not in {(w.measure, w.views) for w in experiment.ways}:
            yield (
                ("paper", i),
                f"{figure.measure} with {figure.views} views is not measured: add it to measure and views",
            )
    if net.HasField("answers"):
        yield from ((("answers",), text) for text in _answers_problems(experiment, net))
    if net.HasField("decode") and not experiment.message.tree:
        yield ("decode",), "label paths are decoded by the experiment's `tree`, which it has not"
    paths = {"net": net.net}
    if trained:
        paths["solver"] = net.solver or experiment.message.solver
    for field, text in paths.items():
        path = experiment.path.parent / text
        if not path.is_file():
            yield (field,), f"there is no {field} file {path}" if text else f"there is no {field}"
        elif field == "net":
            message = read_net(path).message
            for j in remove_layers(message, net.without):
                yield ("without", j), f"{path} has no layer {net.without[j]!r} with one bottom and one top"
            for j in replace_layers(message, net.layer):
                yield ("layer", j), f"{path} has no layer {net.layer[j].name!r} to replace fields of"
            try:
                for j in freeze(message, net.frozen):
                    yield ("frozen", j), f"{path} has no blob {net.frozen[j]!r} below which to freeze"
            except ValueError as error:
                yield ("frozen", 0), str(error)
                return
            if net.insert:
                try:
                    experiment.net_text(net)
                except PrototxtError as error:
                    yield from ((("insert",), problem) for problem in error.problems)


def _answers_problems(experiment: Experiment, net):
    answers = net.answers
    before = [one.name for one in experiment.nets[: experiment.nets.index(net)] if is_trained(one)]
    if not is_trained(net) or net.from_net:
        yield "answers are to be trained on: they do not go with only_test, svm and from_net"
    if answers.net not in before:
        yield f"{answers.net!r} is no net that is trained before it: {', '.join(before)}"
    if not (answers.records and answers.paths and experiment.message.tree):
        yield "answers need `records` and `paths`, and the experiment a `tree`"


def _data_problems(data):
    for i, command in enumerate(data.command):
        try:
            words = shlex.split(command)
        except ValueError as error:
            yield ("command", i), f"{command!r} is no command: {error}"
            continue
        if not words or words[0] not in DATA_COMMANDS:
            known = " or ".join(f"`{name}`" for name in DATA_COMMANDS)
            yield ("command", i), f"{command!r} must be a {known} command of crnn, without `crnn`"
    if not data.command or not data.makes:
        yield (), "data needs a command and what it makes"
