"""One job of an experiment: a net and a seed, in a folder of its own with the texts it is made by."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from crnn.experiments import manifest, measures
from crnn.experiments.answers import ANSWERING, QUESTION, answering_text, steps_of, training_text
from crnn.experiments.measures import Scores
from crnn.experiments.spec import Experiment, is_trained
from crnn.experiments.steps import (
    NET,
    SOLVER,
    Step,
    curve,
    free_name,
    in_line,
    scores_of,
    snapshots,
    testing,
    training,
)
from crnn.proto import pb
from crnn.proto.blobs import write_bytes
from crnn.proto.text import dump

KEPT = 2  # snapshots of a running training
CRF, DECODE, USED = "crf.prototxt", "decode.prototxt", "used.prototxt"


@dataclass(frozen=True)
class Job:
    """The folder is OUT/NET/seed_SEED. The files in it are what a user would write by hand:

    train_val.prototxt, solver.prototxt   the effective texts
    answers.prototxt                      which training records another net labels, if it has such
    answering.prototxt, answers.npz       the net by which it does, and its labels
    answered_paths_lmdb                   the label paths made of these, which the net is trained on
    NET_iter_N.caffemodel, ...            snapshots
    views_1.npz, views_10.npz             the scores of all test records
    anytime.json                          accuracy against cost, if the experiment asks for it
    crf.prototxt                          what refines the scores, if the net has one
    decode.prototxt                       how its label paths are found, if not greedily
    used.prototxt                         of a net that is not trained: its weights, and its SVM
    log.txt, manifest.json                what the commands said, and what they ran on
    """

    experiment: Experiment
    name: str  # of the net
    seed: int
    out: Path

    @property
    def net(self):
        return self.experiment.net(self.name)

    @property
    def folder(self) -> Path:
        return self.out / self.name / f"seed_{self.seed}"

    @property
    def trained(self) -> bool:
        return is_trained(self.net)

    @property
    def source(self) -> "Job | None":
        """The job whose trained weights this one needs: to start from, or for its answers."""
        name = self.net.from_net or self.net.answers.net
        return replace(self, name=name) if name else None

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"

    def texts(self) -> dict[str, str]:
        """File name -> text, of everything that decides what is trained."""
        net = self.experiment.net_text(self.net)
        texts = {NET: dump(net)}
        if self.net.HasField("answers"):
            texts[NET] = dump(training_text(net, self.net.answers, self.folder))
            source = self.experiment.net_text(self.source.net)
            texts[ANSWERING] = dump(answering_text(source, self.net.answers))
            texts[QUESTION] = dump(self.net.answers)
        if self.trained:
            texts[SOLVER] = dump(self.solver())
        else:
            texts[USED] = dump(self._used())
        if self.net.HasField("crf"):
            texts[CRF] = dump(self.net.crf)
        if self.net.HasField("decode"):
            texts[DECODE] = dump(self.net.decode)
        return texts

    def _used(self) -> pb.ExperimentNetParameter:
        """What decides the scores of a net that is not trained, beside its text."""
        used = pb.ExperimentNetParameter(weights=",".join(map(self._within, self.start)))
        if self.net.HasField("svm"):
            used.svm.CopyFrom(self.net.svm)
        return used

    def solver(self) -> pb.SolverParameter:
        solver = self.experiment.solver_text(self.net)
        solver.net, solver.snapshot_prefix = str(self.folder / NET), str(self.folder / self.name)
        solver.random_seed = self.seed
        solver.solver_mode = pb.SolverParameter.CPU  # a device is the command's
        solver.ClearField("snapshot_format")  # what comes after reads the last .caffemodel
        solver.ClearField("snapshot_after_train")
        if self.weights:
            solver.weights[:] = self.start
        return solver

    @property
    def weights(self) -> str:
        """What the net starts from; "" if from its fillers."""
        if self.net.from_net:
            return self.source.trained_weights
        return self.net.weights.replace("{seed}", str(self.seed))

    @property
    def needed_weights(self) -> list[str]:
        """The files of weights that have to be there before: it starts from them, or they answer."""
        answering = map(str, self.source.tested) if self.net.HasField("answers") else ()
        return [*self.start, *answering]

    def digests(self) -> dict[str, str]:
        """sha256 of each of `needed_weights`."""
        return {self._within(path): manifest.digest(path) for path in self.needed_weights}

    def _within(self, path: str) -> str:
        """A path; of a file in OUT what follows that, wherever OUT lies."""
        return path.removeprefix(f"{self.out}/")

    @property
    def trained_weights(self) -> str:
        """What its training ends with."""
        solver = self.solver()
        return f"{solver.snapshot_prefix}_iter_{solver.max_iter}.caffemodel"

    @property
    def start(self) -> list[str]:
        """The files of weights that the net starts from, of which the later win.

        A net with `frozen` blobs may be trained without what makes them, which its own file then lacks.
        """
        before = self.source.start if self.net.from_net and self.source.net.frozen else []
        return [*before, self.weights] if self.weights else []

    @property
    def tested(self) -> list[Path]:
        """The files of weights that the net is tested with."""
        kept = self.start if self.net.frozen or not self.trained else []
        return [*map(Path, kept), *([Path(self.trained_weights)] if self.trained else [])]

    def place(self) -> Path | None:
        """Writes the texts. A folder that was made by others is set aside, under the path returned."""
        texts, aside = self.texts(), None
        if self.folder.exists() and not self.placed:
            aside = free_name(self.folder)
            self.folder.rename(aside)
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            if _text(self.folder / name) != text:
                write_bytes(self.folder / name, text.encode())
        return aside

    def steps(self, gpu: str | None = None) -> Iterator[Step]:
        """In order; each is made when it is its turn, as it depends on what the others left."""
        views = list(self.experiment.message.views)
        if self.net.HasField("svm"):
            yield self._svm(views, gpu)
            return
        if self.net.HasField("answers"):
            tree = self.experiment.message.tree
            yield from steps_of(self.net.answers, self.folder, self.source.tested, tree, gpu)
        if self.trained:
            yield training("train", self.folder, gpu)
        for count in views:
            # Other weights would be another folder's; a copy from a second machine may have any times.
            step = testing(f"test, {count} views", self.folder, count, self.tested, gpu)
            yield step._replace(command=[*step.command, *self._test_flags()], after=())
        if self.experiment.message.cost_curve:
            yield curve(self.folder, self.tested, gpu)

    def _test_flags(self) -> list[str]:
        flags = ["--tree", self.experiment.message.tree] if self.experiment.message.tree else []
        for name in ("crf", "decode"):
            if self.net.HasField(name):
                flags += [f"--{name}", in_line(getattr(self.net, name))]
        return flags

    def _svm(self, views: list[int], gpu: str | None) -> Step:
        svm, model = self.net.svm, self.folder / NET
        command = ["svm", "--model", str(model), "--weights", self.weights, "--blob", svm.blob]
        command += ["--c", ",".join(f"{c:g}" for c in svm.c), "--folds", str(svm.folds)]
        command += ["--views", ",".join(map(str, views)), "--seed", str(self.seed)]
        command += ["--save", str(self.folder)]
        command += [] if gpu is None else ["--gpu", gpu]
        return Step("svm", command, [scores_of(self.folder, count) for count in views])

    @property
    def placed(self) -> bool:
        """Whether the folder is of this job as the experiment now has it, also where OUT was moved or copied
        since, or is named by another path."""
        then = self._out_then()
        return all(_text(self.folder / name, then, self.out) == text for name, text in self.texts().items())

    def _out_then(self) -> str | None:
        """OUT as the texts of the folder have it."""
        end = re.escape(f"/{self.name}/seed_{self.seed}/{self.name}")
        found = re.search(rf'^snapshot_prefix: "(.*){end}"$', _text(self.folder / SOLVER) or "", re.MULTILINE)
        return found and found[1]

    @property
    def done(self) -> bool:
        return self.placed and all(step.done for step in self.steps()) and not self.outdated

    @property
    def outdated(self) -> bool:
        """Whether the net that this one starts from was trained anew since."""
        if not self.source or not (self.folder / manifest.FILE).exists():
            return False
        if not all(Path(path).exists() for path in self.needed_weights):
            return False
        then, now = manifest.read(self.folder).get("weights", {}), self.digests()
        return any(then.get(path, digest) != digest for path, digest in now.items())

    def scores(self, views: int) -> Scores:
        return measures.load(scores_of(self.folder, views))

    def prune(self, kept: int = KEPT) -> None:
        """Removes whole snapshots but the newest `kept`: a long training would fill the disk with them."""
        for state in snapshots(self.folder)[: -kept or None]:
            for suffix in (".resume.json", ".solverstate", ".caffemodel"):
                state.with_suffix(suffix).unlink(missing_ok=True)


def jobs_of(
    experiment: Experiment, out: Path, seeds: list[int] | None = None, nets: list[str] | None = None
) -> list[Job]:
    """Seed by seed, so that a run that is stopped early has whole comparisons.

    Raises ValueError for a seed or net that the experiment does not have, and where none of the nets has one
    of the seeds.
    """
    names = [net.name for net in experiment.nets]
    for asked, known, what in ((seeds, experiment.seeds, "seed"), (nets, names, "net")):
        for one in asked or ():
            if one not in known:
                has = ", ".join(map(str, known))
                raise ValueError(f"{experiment.name} has no {what} {one!r}; it has {has}")
    found = [
        Job(experiment, net.name, seed, out)
        for seed in dict.fromkeys(seeds or experiment.seeds)
        for net in experiment.nets
        if net.name in (nets or names) and seed in experiment.seeds_of(net)
    ]
    if not found:
        raise ValueError(
            f"a net that is not trained has the first seed alone, {experiment.seeds[0]}: ask for it"
        )
    return found


def _text(path: Path, then: str | None = None, now: Path | None = None) -> str | None:
    """A file's text, whose paths that begin with `then` begin with `now`."""
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    return text if then is None else text.replace(f'"{then}/', f'"{now}/')
