"""`crnn classify`: Caffe's preparation and lines, pictures of what is seen, JSON, and what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from crnn.net import weights
from crnn.net.net import Net
from crnn.proto.blobs import write_mean
from crnn.testing import golden
from crnn.tools import classify

NET = """
name: "small"
layer {{ name: "data" type: "Input" top: "data"
  input_param {{ shape {{ dim: 10 dim: {C} dim: {h} dim: {w} }} }} }}
layer {{ name: "pool" type: "Pooling" bottom: "data" top: "pool"
  pooling_param {{ pool: AVE kernel_size: 4 stride: 4 }} }}
{middle}
layer {{ name: "fc" type: "InnerProduct" bottom: "{last}" top: "fc"
  inner_product_param {{ num_output: 6 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "prob" type: "Softmax" bottom: "fc" top: "prob" }}
"""
RNN = """
layer { name: "rnn" type: "SpatialRNN" bottom: "pool" top: "rnn" spatial_rnn_param {
  num_output: 3 cell: "tanh" direction: "right" direction: "up" weight_filler { type: "gaussian" std: 0.02 }
  recurrent_filler { type: "gaussian" std: 0.4 } } }
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (40, 60, 3)), ("b.jpg", (33, 21, 3)), ("grey.png", (16, 16))):
        cv2.imwrite(name, rng.integers(0, 256, shape, np.uint8))


def write_net(C=3, h=16, w=16, rnn=True, name="net") -> list[str]:
    """Writes NAME.prototxt and NAME.caffemodel; the command's first words."""
    torch.manual_seed(0)
    text = NET.format(C=C, h=h, w=w, middle=RNN if rnn else "", last="rnn" if rnn else "pool")
    Path(f"{name}.prototxt").write_text(text)
    weights.save(Net(text, phase="TEST"), f"{name}.caffemodel")
    return [f"{name}.prototxt", f"{name}.caffemodel"]


def answers(text: str) -> list[tuple[float, str]]:
    return [(float(p), name) for p, name in re.findall(r'^(\d\.\d{4}) - "(.*)"$', text, re.MULTILINE)]


def probabilities(*inputs: np.ndarray) -> list[float]:
    """What the net says to its inputs [C, h, w], averaged, by the softmax's own definition."""
    net = Net("net.prototxt", phase="TEST", weights="net.caffemodel")
    with torch.no_grad():
        net(data=torch.from_numpy(np.stack(inputs).astype(np.float32)))
    scores = np.exp(net.blobs["fc"].double().numpy())
    return (scores / scores.sum(1, keepdims=True)).mean(0).tolist()


def said(text: str) -> list[float]:
    """The probabilities of --json, by class."""
    (one,) = json.loads(text)
    return [row["probability"] for row in sorted(one["predictions"], key=lambda row: row["class"])]


def test_caffes_lines_and_the_page(capsys):
    Path("words.txt").write_text("".join(f"n0{i} kind {i}, a thing\n" for i in range(6)))
    assert classify.main([*write_net(), "a.png", "b.jpg", "--labels", "words.txt"]) == 0
    out, err = capsys.readouterr()
    heads = re.findall(r"-{10} Prediction for (\S+) -{10}", out)
    assert heads == ["a.png", "b.jpg"]
    found = answers(out)
    assert len(found) == 10 and found[0][0] >= found[4][0]
    assert all(re.fullmatch(r"n0\d kind \d, a thing", name) for _, name in found)
    assert re.search(
        r"layer rnn at region 2,2 sees beyond it: right [\d.]+ %, up [\d.]+ %, sum [\d.]+ %\n", out
    )
    assert err == "pictures: classify.html\n"
    page = Path("classify.html").read_text(encoding="utf-8")
    assert "What each direction sees" in page and "n00 kind 0" in page
    assert page.count("<figure>") == 2 * 5  # image, class score, two directions, their sum


def test_warped_less_the_mean_times_scale_and_cropped(capsys):
    image = cv2.imread("a.png")
    words = [*write_net(), "a.png", "--resize", "20x24", "--mean", "104,117,123", "--scale", "0.5"]
    classify.main([*words, "--json", "--top", "6", "--no-pictures"])
    small = cv2.resize(image, (24, 20)).astype(np.float64)[2:18, 4:20]  # the centre, (20 - 16) // 2
    prepared = ((small - [104, 117, 123]) * 0.5).transpose(2, 0, 1)  # blue first, as cv2 reads
    assert said(capsys.readouterr().out) == pytest.approx(probabilities(prepared), abs=1e-6)


def test_a_mean_file_says_the_size_and_is_cropped_alike(capsys):
    mean = np.random.default_rng(1).uniform(0, 255, (3, 18, 18)).astype(np.float32)
    write_mean("mean.binaryproto", mean)
    classify.main(
        [*write_net(), "b.jpg", "--mean", "mean.binaryproto", "--json", "--top", "6", "--no-pictures"]
    )
    small = cv2.resize(cv2.imread("b.jpg"), (18, 18)).transpose(2, 0, 1)
    prepared = (small.astype(np.float64) - mean)[:, 1:17, 1:17]
    assert said(capsys.readouterr().out) == pytest.approx(probabilities(prepared), abs=1e-6)


def test_a_size_that_no_memory_holds():
    words = [*write_net(), "a.png", "--no-pictures", "--resize", "100000000"]
    with pytest.raises(MemoryError, match=r"a\.png at 100000000 x 100000000 pixels"):
        classify.main(words)


def test_ten_views_average_the_softmax_outputs(capsys):
    words = [*write_net(), "a.png", "--resize", "20", "--views", "10"]
    classify.main([*words, "--json", "--top", "6", "--no-pictures"])
    small = cv2.resize(cv2.imread("a.png"), (20, 20)).transpose(2, 0, 1)
    crops = [small[:, y : y + 16, x : x + 16] for y, x in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2))]
    expected = probabilities(*crops, *(crop[..., ::-1] for crop in crops))
    assert said(capsys.readouterr().out) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("side", "expected"), [(223, (223, 223)), (224, (256, 256)), (227, (256, 256))])
def test_a_net_of_caffes_size_gets_caffes_256(side, expected):
    param = classify.images.pb.TransformationParameter()
    assert classify.images.default_size(param, side, side) == expected


@pytest.mark.parametrize("image", ["a.png", "grey.png"])
def test_a_grey_net_sees_grey(image, capsys):
    classify.main([*write_net(C=1), image, "--json", "--top", "6", "--no-pictures"])
    grey = cv2.resize(cv2.imread(image, cv2.IMREAD_GRAYSCALE), (16, 16))
    assert said(capsys.readouterr().out) == pytest.approx(probabilities(grey[None]), abs=1e-6)


def test_a_net_that_is_not_square_takes_the_image_whole(capsys):
    classify.main([*write_net(h=12, w=20), "a.png", "--json", "--top", "6", "--no-pictures"])
    whole = cv2.resize(cv2.imread("a.png"), (20, 12)).transpose(2, 0, 1)
    assert said(capsys.readouterr().out) == pytest.approx(probabilities(whole), abs=1e-6)


def test_a_folder_is_its_images_by_name_in_batches(capsys, monkeypatch):
    monkeypatch.setattr(classify, "BATCH", 2)
    write = [*write_net(), ".", "--no-pictures"]
    classify.main([*write, "--json"])
    whole = json.loads(capsys.readouterr().out)
    assert [one["image"] for one in whole] == ["a.png", "b.jpg", "grey.png"]
    monkeypatch.setattr(classify, "BATCH", 3)
    classify.main([*write, "--json"])
    for one, other in zip(whole, json.loads(capsys.readouterr().out), strict=True):
        p, q = ([row["probability"] for row in each["predictions"]] for each in (one, other))
        assert p == pytest.approx(q, abs=1e-6)


@pytest.mark.parametrize("more", [[], ["--tree", "tree.txt"]])
def test_images_that_cannot_be_read_are_told_and_left_out(more, capsys):
    words, jpeg = write_net(), Path("b.jpg").read_bytes()
    Path("cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    Path("tree.txt").write_text(TREE)
    names = ["a.png", "net.prototxt", "cut.jpg", "b.jpg", "a.png"]
    assert classify.main([*words, *names, "--no-pictures", "--json", *more]) == 1
    out, errors = capsys.readouterr()
    assert [one["image"] for one in json.loads(out)] == ["a.png", "b.jpg", "a.png"]
    assert "net.prototxt: an image of" in errors and "left out: cut.jpg: a truncated JPEG" in errors
    assert classify.main([*words, "cut.jpg", "--json", *more]) == 1
    assert json.loads(capsys.readouterr().out) == []


def test_json_holds_what_is_seen(capsys):
    classify.main([*write_net(), "a.png", "--json", "--region", "1,2", "--html", "x.html"])
    (one,) = json.loads(capsys.readouterr().out)
    sees = one["sees"]
    assert (sees["layer"], sees["region"], sees["line_break"]) == ("rnn", [1, 2], "carry")
    regions = np.array(sees["regions"]["right"])
    assert regions.shape == (4, 4)
    assert (regions.ravel()[:7] > 0).all() and (regions.ravel()[7:] == 0).all()
    assert sees["beyond"]["right"] == pytest.approx(1 - regions[1, 2] / regions.sum())


def test_pictures_of_the_first_images_alone(capsys, monkeypatch):
    monkeypatch.setattr(classify, "DRAWN", 1)
    classify.main([*write_net(), "a.png", "b.jpg"])
    assert capsys.readouterr().out.count("sees beyond") == 1
    assert "The first 1 of 2 images" in Path("classify.html").read_text(encoding="utf-8")


def test_a_net_without_directions_shows_its_score(capsys):
    classify.main([*write_net(rnn=False), "a.png"])
    assert "sees" not in capsys.readouterr().out
    page = Path("classify.html").read_text(encoding="utf-8")
    assert "no SpatialRNN layer" in page and page.count("<figure>") == 2


def test_a_training_net_prepares_by_its_data_layer(logged, capsys):
    """Its TEST form: crop, mean and scale of transform_param, records of the database's size."""
    words = ["logged_net.prototxt", str(golden("tools/logged_iter_30.caffemodel"))]
    image = str(golden("tools/images/coffee/0.jpg"))
    assert classify.main([*words, image, "--no-pictures", "--json", "--top", "3"]) == 0
    net = Net("logged_net.prototxt", phase="TEST", weights=words[1])
    transformer = net.layer("data").loader.transformer
    H, W = transformer.shape[1:]
    record = cv2.resize(cv2.imread(image), (W, H)).transpose(2, 0, 1)[None]
    net(data=transformer.view(record, 4), label=np.zeros(1, np.float32))
    expected = net.blobs[net.nodes[-1].bottoms[0]].softmax(1)[0].tolist()
    assert said(capsys.readouterr().out) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(
        ValueError, match="--mean is for a deploy net: here transform_param of 'data' decides"
    ):
        classify.main([*words, image, "--mean", "1"])


def test_runs_as_a_program_and_fails_in_one_sentence():
    words = [sys.executable, "-m", "crnn", "classify", *write_net(), "a.png"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([*words, "gone.png"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "gone.png" in done.stderr


def test_without_matplotlib_it_classifies_alone(monkeypatch):
    words = [*write_net(), "a.png"]
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"from crnn.tools import classify; classify.main({[*words, '--no-pictures']})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert len(answers(done.stdout)) == 5, done.stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ValueError, match=r"pictures need matplotlib: install crnn\[report\], or give --no-pic"
    ):
        classify.main(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["net.prototxt", "gone.caffemodel", "a.png"], "gone.caffemodel"),
        (["net.prototxt", "{state}", "a.png"], r"this is a solver state \(.solverstate\), not a binary net"),
        (["net.caffemodel", "net.caffemodel", "a.png"], "not a prototxt"),
        (["net.prototxt", "net.caffemodel", "empty"], "folder empty holds no images"),
        (
            ["net.prototxt", "plain.caffemodel", "a.png"],
            "plain.caffemodel has no weights for rnn of net.proto",
        ),
        (
            ["net.prototxt", "net.caffemodel", "a.png", "--resize", "10"],
            "takes 16 x 16 pixels, which 10 x 10",
        ),
        (["net.prototxt", "net.caffemodel", "a.png", "--mean", "1,2"], "2 mean_value for 3 channels"),
        (["net.prototxt", "net.caffemodel", "a.png", "--mean", "gone"], "gone"),
        (
            ["net.prototxt", "net.caffemodel", "a.png", "--mean", "m.binaryproto", "--resize", "32"],
            "m.binaryproto is 18 x 18, --resize 32 x 32: leave --resize out",
        ),
        (["net.prototxt", "net.caffemodel", "a.png", "--labels", "net.prototxt"], "the net has 6 classes"),
        (["net.prototxt", "net.caffemodel", "a.png", "--top", "0"], "--top must be at least 1, got 0"),
        (["net.prototxt", "net.caffemodel", "a.png", "--region", "4,0"], "region 4,0 is not on the map"),
        (["net.prototxt", "net.caffemodel", "a.png", "--layer", "x"], "no SpatialRNN layer 'x'; it has rnn"),
        (
            ["net.prototxt", "net.caffemodel", "a.png", "--html", "no/x.html"],
            "there is no folder no; create it",
        ),
        (["two.prototxt", "two.caffemodel", "a.png"], "takes 2 channels; an image has 3"),
        (["train.prototxt", "net.caffemodel", "a.png"], "reads the database 'gone_lmdb', .* give its deploy"),
    ],
)
def test_what_it_refuses(words, message):
    write_net(C=2, name="two")
    write_net(rnn=False, name="plain")
    write_net()
    write_mean("m.binaryproto", np.zeros((3, 18, 18), np.float32))
    Path("empty").mkdir()
    Path("train.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "data" data_param { source: "gone_lmdb" backend: LMDB } }'
    )
    state = str(golden("tools/logged_iter_30.solverstate"))
    with pytest.raises((ValueError, OSError), match=message):
        classify.main([word.format(state=state) for word in words])


@pytest.mark.parametrize(
    "flag", [["--resize", "big"], ["--resize", "0"], ["--region", "3"], ["--views", "5"]]
)
def test_flags_that_say_nothing(flag, capsys):
    with pytest.raises(SystemExit):
        classify.main(["net.prototxt", "net.caffemodel", "a.png", *flag])
    assert flag[0] in capsys.readouterr().err


# ---- label paths ----

TREE = "all\n  animal\n    cat\n    dog\n  thing\n    cup\n    pen\n    hat\n    car\n"


def test_the_path_of_a_label_in_a_tree(capsys):
    """A net of six classes: the path above the likeliest."""
    words = write_net()
    Path("tree.txt").write_text(TREE)
    assert classify.main([*words, "a.png", "b.jpg", "--tree", "tree.txt"]) == 0
    out = capsys.readouterr().out.splitlines()
    classify.main([*words, "a.png", "b.jpg", "--no-pictures", "--top", "1"])
    best = [
        int(re.search(r"class (\d)", line)[1]) for line in capsys.readouterr().out.splitlines() if '"' in line
    ]
    names = ["animal → cat", "animal → dog", *(f"thing → {name}" for name in ("cup", "pen", "hat", "car"))]
    assert out == [f"{file}: {names[label]}" for file, label in zip(("a.png", "b.jpg"), best, strict=True)]
    classify.main([*words, "a.png", "--tree", "tree.txt", "--json"])
    assert json.loads(capsys.readouterr().out) == [{"image": "a.png", "path": names[best[0]].split(" → ")}]


def test_the_shipped_cnn_rnn_says_paths(capsys):
    """Its deploy takes images and label paths; from any weights, a valid path is of the tree."""
    from crnn.tools.experiment import SHIPPED

    deploy = SHIPPED / "cnn_rnn" / "deploy.prototxt"
    torch.manual_seed(0)
    weights.save(Net(str(deploy), phase="TEST"), "rnn.caffemodel")
    groups = [f"  g{i}\n" + "".join(f"    f{5 * i + j}\n" for j in range(5)) for i in range(20)]
    Path("tree.txt").write_text("cifar100\n" + "".join(groups))
    words = [str(deploy), "rnn.caffemodel", "a.png", "--tree", "tree.txt"]
    assert classify.main([*words, "--decode", "valid: true beam: 3"]) == 0
    group, fine = re.fullmatch(r"a\.png: g(\d+) → f(\d+)\n", capsys.readouterr().out).groups()
    assert int(group) == int(fine) // 5
    for more, says in (
        (["--views", "10"], "said of 1 view"),
        (["--decode", "given: 1"], "no label of an image"),
    ):
        with pytest.raises(ValueError, match=says):
            classify.main([*words, *more])
    with pytest.raises(ValueError, match="--decode is of label paths: give their --tree"):
        classify.main([*write_net(), "a.png", "--decode", "beam: 2"])
