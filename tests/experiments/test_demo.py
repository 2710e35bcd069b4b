"""`crnn demo` on a tiny data set: all its steps, a second run, a resumed run, and other settings."""

import re
import shutil

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto.upgrade import read_net, read_solver
from crnn.tools import data, demo, train


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A folder with the databases already converted, and the demo's nets made small."""
    system = tmp_path / "system"
    shutil.copytree(demo.SYSTEM, system)
    for path in system.rglob("*.prototxt"):
        text = re.sub(r"batch_size: \d+", "batch_size: 4", path.read_text())
        path.write_text(re.sub(r"test_iter: \d+", "test_iter: 1", text))
    monkeypatch.setattr(demo, "SYSTEM", system)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, count in (("train_lmdb", 8), ("test_lmdb", 6)):
        with LmdbWriter(tmp_path / "out" / name) as database:
            for i in range(count):
                image = rng.integers(0, 256, (1, 28, 28), np.uint8)
                database.put(b"%08d_r" % i, encode(image, i))
    (tmp_path / "out" / "labels.txt").write_text("".join(f"kind {i}\n" for i in range(10)))
    return tmp_path / "out"


def run(*more: str) -> int:
    return demo.main(["--out", "out", "--iterations", "3", *more])


def commands(text: str) -> list[str]:
    return [line[2:].split(" --")[0] for line in text.splitlines() if line.startswith("$ ")]


def test_demo_trains_tests_and_reports(out, capsys):
    assert run() == 0
    printed = capsys.readouterr().out
    assert commands(printed) == [
        "crnn data mean out/train_lmdb out/mean.binaryproto",
        *["crnn train"] * 2,
        *["crnn test"] * 4,
    ]
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in (
        "kind 9",
        "crnn train --solver out/crnn/solver.prototxt",
        "SpatialRNN",
        "What each direction sees",
        "→ right",
    ):
        assert text in page
    for figure in re.findall(r"\d+\.\d\d %", printed.split("top-1 accuracy")[-1]):
        assert figure in page
    assert printed.endswith("report: out/report.html\n")


def test_a_second_run_does_nothing_again(out, capsys):
    run()
    page = (out / "report.html").read_text(encoding="utf-8")
    capsys.readouterr()
    assert run() == 0
    assert commands(capsys.readouterr().out) == []
    assert (out / "report.html").read_text(encoding="utf-8") == page


def test_a_killed_training_goes_on_from_its_last_snapshot(out, capsys):
    demo.place("crnn", out.relative_to(out.parent), 3)
    solver = out / "crnn" / "solver.prototxt"
    text = solver.read_text()
    solver.write_text(text.replace("max_iter: 3", "max_iter: 2").replace("snapshot: 3", "snapshot: 2"))
    data.main(["mean", "out/train_lmdb", "out/mean.binaryproto"])
    train.main(["--solver", "out/crnn/solver.prototxt"])
    solver.write_text(text)
    (out / "crnn" / "crnn_iter_9.solverstate").write_text("its .resume.json was not written: not whole")
    assert demo.training("train crnn", out / "crnn").command[-1] == str(
        out / "crnn" / "crnn_iter_2.solverstate"
    )
    assert run() == 0
    assert "--snapshot out/crnn/crnn_iter_2.solverstate" in capsys.readouterr().out


def test_other_settings_train_anew_and_keep_what_was_there(out, capsys):
    run()
    old = (out / "crnn" / "crnn_iter_3.caffemodel").read_bytes()
    capsys.readouterr()
    run("--iterations", "4")
    printed = capsys.readouterr().out
    assert "out/crnn was made with other settings: it is now out/crnn.1" in printed
    assert (out / "crnn.1" / "crnn_iter_3.caffemodel").read_bytes() == old
    assert (out / "crnn" / "crnn_iter_4.caffemodel").exists()


def test_a_stopped_training_stops_the_demo(out, capsys, monkeypatch):
    monkeypatch.setattr(train, "main", lambda argv: 130)
    assert run() == 130
    assert "`crnn demo --out out --iterations 3` goes on from here" in capsys.readouterr().out
    assert not (out / "report.html").exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"train crnn": "long"}', "[" * 100_000], ids=lambda text: text[:9]
)
def test_damaged_times_are_named(tmp_path, text):
    (tmp_path / "times.json").write_text(text)
    with pytest.raises(ValueError, match=r"times\.json is damaged; remove it"):
        demo.Times(tmp_path / "times.json")


@pytest.mark.parametrize("name", ["plain", "with space", 'quo"te', "back\\slash", "a/b"])
def test_copies_speak_of_the_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / name
    demo.place("crnn", place, 7)
    solver = read_solver(place / "crnn" / "solver.prototxt").message
    assert (solver.net, solver.max_iter) == (str(place / "crnn" / "train_val.prototxt"), 7)
    assert solver.snapshot_prefix == str(place / "crnn" / "crnn")
    data = read_net(solver.net).message.layer[0]
    assert data.data_param.source == str(place / "train_lmdb")
    assert data.transform_param.mean_file == str(place / "mean.binaryproto")


def test_without_options_the_copies_are_the_shipped_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    demo.place("plain", demo.Path(demo.PLACE), None)
    copy = (tmp_path / demo.PLACE / "plain" / "solver.prototxt").read_text()
    shipped = (demo.SYSTEM / "plain" / "solver.prototxt").read_text()
    assert copy.replace(f"{demo.PLACE}/plain/train_val", "prototxt_like/demo/plain/train_val") == shipped


def test_the_twin_differs_in_the_recurrent_layer_alone():
    nets = {net: read_net(demo.SYSTEM / net / "train_val.prototxt").message for net in demo.NETS}
    layers = list(nets["crnn"].layer)
    (rnn,) = [layer for layer in layers if layer.type == "SpatialRNN"]
    layers.remove(rnn)
    for layer in layers:  # what read the recurrent layer reads its bottom
        layer.bottom[:] = [rnn.bottom[0] if name == rnn.top[0] else name for name in layer.bottom]
        layer.top[:] = [rnn.bottom[0] if name == rnn.top[0] else name for name in layer.top]
    assert layers == list(nets["plain"].layer)


def test_both_nets_have_one_solver():
    texts = [(demo.SYSTEM / net / "solver.prototxt").read_text() for net in demo.NETS]
    assert texts[0].replace("crnn", "plain") == texts[1]


@pytest.mark.parametrize("count", ["0", "-3"])
def test_too_few_iterations_are_refused(count):
    with pytest.raises(ValueError, match="at least 1"):
        demo.main(["--iterations", count])
