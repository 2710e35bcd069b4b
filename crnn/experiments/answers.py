"""Training on another net's answers (Guo 2018, section 4.2): it labels what has coarse labels alone."""

from collections.abc import Iterator
from pathlib import Path

from crnn.experiments.steps import Step, in_line, on
from crnn.net.graph import is_included, net_state
from crnn.proto import pb

#: Of a job's folder: what is asked, the net that is, its labels, and the label paths made of them.
QUESTION, ANSWERING, ANSWERS = "answers.prototxt", "answering.prototxt", "answers.npz"
PATHS = "answered_paths_lmdb"


def training_text(net: pb.NetParameter, answers: pb.AnswersParameter, folder: Path) -> pb.NetParameter:
    """The net with the folder's label paths in training."""
    return _reading(net, pb.TRAIN, {answers.paths: str(folder / PATHS)})


def answering_text(net: pb.NetParameter, answers: pb.AnswersParameter) -> pb.NetParameter:
    """The net with the records to be labelled as its images in the test."""
    return _reading(net, pb.TEST, {images_of(net, pb.TEST): answers.records})


def images_of(net: pb.NetParameter, phase) -> str:
    """The database of a net's images: its first Data layer's. "" if it has none."""
    state = net_state(net, phase)
    layers = [layer for layer in net.layer if layer.type == "Data" and is_included(state, layer)]
    return layers[0].data_param.source if layers else ""


def _reading(net: pb.NetParameter, phase, sources: dict[str, str]) -> pb.NetParameter:
    """The net with other databases in a phase."""
    copy, state = pb.NetParameter(), net_state(net, phase)
    copy.CopyFrom(net)
    for layer in copy.layer:
        if layer.type == "Data" and is_included(state, layer):
            layer.data_param.source = sources.get(layer.data_param.source, layer.data_param.source)
    return copy


def steps_of(
    answers: pb.AnswersParameter, folder: Path, weights: list[Path], tree: str, gpu
) -> Iterator[Step]:
    """The test of the records by the net of `weights`, and the label paths out of it."""
    command = ["test", "--model", str(folder / ANSWERING), "--weights", ",".join(map(str, weights))]
    command += ["--all", "--tree", tree]
    command += ["--decode", in_line(answers.decode)] if answers.HasField("decode") else []
    yield Step("answer", [*command, "--save", str(folder / ANSWERS), *on(gpu)], [folder / ANSWERS])
    command = ["data", "paths", answers.paths, tree, str(folder / PATHS)]
    yield Step("paths", [*command, "--answers", str(folder / ANSWERS)], [folder / PATHS])
