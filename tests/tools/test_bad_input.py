"""The wrong file in a command's hands: one sentence with what it is and what to give, exit code 1."""

import math
import shutil
from pathlib import Path

import pytest

from crnn.__main__ import main
from crnn.proto import pb
from crnn.proto.blobs import read_binary, write_binary
from crnn.testing import golden

WEIGHTS, STATE = (str(golden(f"tools/logged_iter_30.{kind}")) for kind in ("caffemodel", "solverstate"))
MEAN, IMAGE = str(golden("tools/mean.binaryproto")), str(golden("tools/images") / "coffee/0.jpg")
NET, SOLVER = "logged_net.prototxt", "logged_solver.prototxt"
DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 8 kernel_size: 5 stride: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


@pytest.fixture
def said(logged, tmp_path, monkeypatch, capsys):
    """Runs `crnn WORDS` beside all kinds of files: what it says on stderr, without the command's name."""
    for file in (NET, SOLVER):
        shutil.copy(golden(f"tools/{file}"), file)
    with open("deploy.prototxt", "w") as text:
        text.write(DEPLOY)
    with open("deploy_solver.prototxt", "w") as text:
        text.write('net: "deploy.prototxt" base_lr: 1 lr_policy: "fixed" max_iter: 1 snapshot_prefix: "d"\n')
    with open("lost.prototxt", "w") as text:
        text.write(Path(NET).read_text().replace("raw_color_lmdb", "nowhere_lmdb"))
    with open("page.prototxt", "w") as text:
        text.write("<!DOCTYPE html>\n<html></html>")

    def run(*words) -> str:
        capsys.readouterr()
        assert main(list(words)) == 1
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert last.startswith(f"crnn {words[0]}: ")
        return last.removeprefix(f"crnn {words[0]}: ")

    return run


# ---- a deploy where a train_val is wanted, and the other way round ----

READS_NOTHING = "layer 'data' (Input): has no data of its own: call net(data=...), or give the train_val"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["test", "-model", "deploy.prototxt", "-weights", WEIGHTS], READS_NOTHING),
        (["extract_features", WEIGHTS, "deploy.prototxt", "fc", "out", "1"], READS_NOTHING),
        (["train", "-solver", "deploy_solver.prototxt"], READS_NOTHING),
        (
            ["test", "-model", "deploy.prototxt", "-weights", WEIGHTS, "--all"],
            "net '' must have one Data layer in phase TEST, it has 0: give its train_val, not its deploy",
        ),
        (
            ["convert", "--net", NET, WEIGHTS, "x.onnx"],
            "net 'logged' reads its data itself (data): give its deploy.prototxt, whose Input layers",
        ),
        (
            ["classify", "lost.prototxt", WEIGHTS, IMAGE],
            "lost.prototxt reads the database 'nowhere_lmdb', which is not here: give its deploy",
        ),
    ],
)
def test_a_net_of_the_wrong_kind(said, words, says):
    assert said(*words).startswith(says)


@pytest.mark.parametrize(
    "words",
    [
        ["test", "-model", "lost.prototxt", "-weights", WEIGHTS],
        ["time", "-model", "lost.prototxt"],
        ["extract_features", WEIGHTS, "lost.prototxt", "fc", "out", "1"],
        ["convert", "--net", "lost.prototxt", WEIGHTS, "x.safetensors"],
    ],
)
def test_a_train_val_without_its_data(said, words):
    text = said(*words)
    assert (
        text.startswith("lost.prototxt:") and "layer 'data' (Data): there is no database nowhere_lmdb" in text
    )
    assert text.endswith("without its data a trained net runs by its deploy prototxt")


# ---- one kind of Caffe's files for another ----

IS = {
    "page.prototxt": "this is an HTML page (download the file itself; on GitHub, the raw link)",
    WEIGHTS: "this is a binary net (.caffemodel)",
    STATE: "this is a solver state (.solverstate)",
    MEAN: "this is a binary blob (.binaryproto)",
    IMAGE: "this is a JPEG image",
    "raw_color_lmdb/data.mdb": "this is the data file of an LMDB",
}


@pytest.mark.parametrize("file", IS, ids=lambda path: path.rsplit("/")[-1])
@pytest.mark.parametrize(
    "words",
    [
        ["train", "-solver"],
        ["test", "-weights", WEIGHTS, "-model"],
        ["time", "-model"],
        ["classify"],
    ],
    ids=lambda words: words[0],
)
def test_what_is_no_prototxt(said, file, words):
    rest = [WEIGHTS, IMAGE] if words[0] == "classify" else []
    assert said(*words, file, *rest) == f"{file}: {IS[file]}, not a prototxt"


def test_a_net_for_a_solver_and_a_solver_for_a_net(said):
    solver = "this is a solver's prototxt, not a net's: give the file that its `net` names"
    assert said("test", "-model", SOLVER, "-weights", WEIGHTS) == f"{SOLVER}: {solver}"
    net = "this is a net's prototxt, not a solver's: give the solver whose `net` names it"
    assert said("train", "-solver", NET) == f"{NET}: {net}"


def test_a_snapshots_two_files_swapped(said):
    says = "this is a solver state (.solverstate), not a binary net (.caffemodel)"
    assert said("train", "-solver", SOLVER, "-weights", STATE) == f"{STATE}: {says}"
    assert said("test", "-model", NET, "-weights", STATE) == f"{STATE}: {says}"
    says = "holds weights only; resume from its .solverstate, or give it as -weights"
    assert said("train", "-solver", SOLVER, "-snapshot", WEIGHTS) == f"{WEIGHTS} {says}"
    shutil.copy(WEIGHTS, "renamed")
    says = "this is a binary net (.caffemodel), not a solver state (.solverstate)"
    assert said("train", "-solver", SOLVER, "-snapshot", "renamed") == f"renamed: {says}"


@pytest.mark.parametrize("file", ["page.prototxt", MEAN, IMAGE, NET], ids=lambda path: path.rsplit("/")[-1])
def test_what_are_no_weights(said, file):
    what = IS.get(file, "this is text")
    assert said("test", "-model", NET, "-weights", file) == f"{file}: {what}, not a binary net (.caffemodel)"


def test_what_is_no_mean(said):
    words = ["classify", "deploy.prototxt", WEIGHTS, IMAGE, "--no-pictures", "--mean"]
    assert said(*words, WEIGHTS) == f"{WEIGHTS}: {IS[WEIGHTS]}, not a binary blob (.binaryproto)"


def test_files_that_are_not_there(said):
    assert said("test", "-model", NET, "-weights", "gone") == "gone: No such file or directory"
    assert said("test", "-model", "raw_color_lmdb", "-weights", WEIGHTS) == "raw_color_lmdb: Is a directory"


def test_weights_of_another_net(said):
    with open("wide.prototxt", "w") as text:
        text.write(DEPLOY.replace("num_output: 3", "num_output: 5"))
    assert said("classify", "wide.prototxt", WEIGHTS, IMAGE) == (
        f"{WEIGHTS} does not fit net '': layer 'fc': blob 0 is [5, 1568], in the file [3, 1568]. "
        "To learn a layer from scratch, rename it in the prototxt"
    )


@pytest.mark.parametrize("size", [10, 1000, 12000])
def test_weights_cut_off(said, size):
    Path("cut.caffemodel").write_bytes(Path(WEIGHTS).read_bytes()[:size])
    text = said("test", "-model", NET, "-weights", "cut.caffemodel")
    assert text.startswith(f"cut.caffemodel: cut off after {size} bytes of at least ")
    assert text.endswith("; copy it again")


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_weights_with_bits_flipped_to_no_number(said, value):
    net = read_binary(WEIGHTS, pb.NetParameter)
    next(layer for layer in net.layer if layer.name == "fc").blobs[0].data[7] = value
    write_binary("flipped.caffemodel", net)
    says = "layer 'fc': its blobs are not finite; the file is damaged, or its training diverged"
    assert said("test", "-model", NET, "-weights", "flipped.caffemodel") == f"flipped.caffemodel: {says}"
