"""CAFFE.md 1.9: Caffe's log lines token by token; rows over stops and resumes; the bar on a terminal."""

import csv
import errno
import io
import json
import re
from pathlib import Path

import pytest

from crnn.solver.events import Displayed, Finished, Note, Output, Scored, Scoring, Started, Stepped
from crnn.solver.log import GlogLines, Progress, lines, listeners
from crnn.solver.rows import Rows, read_rows
from crnn.solver.solver import Solver
from crnn.testing import golden
from crnn.tools import train

NAN = float("nan")
LOSS = Output("loss", 0.5, 1.0)


def displayed(iteration, loss=0.5, seconds=1.0, outputs=(LOSS,)):
    return Displayed(iteration, loss, 0.01, tuple(outputs), seconds, 2.0, 20, 640.0, 20)


def scored(iteration, value=0.25, net=0, loss=None):
    return Scored(iteration, net, (Output("accuracy", value), Output("loss", 2.0, 0.5)), loss, 3.0)


def texts(event):
    return [text for _, text in lines(event)]


def test_display_lines():
    assert texts(displayed(20, 1 / 3)) == [
        "Iteration 20 (10 iter/s, 2s/20 iters), loss = 0.333333",
        "    Train net output #0: loss = 0.5 (* 1 = 0.5 loss)",
    ]


def test_test_lines():
    assert texts(Scoring(20, 1)) == ["Iteration 20, Testing net (#1)"]
    assert texts(scored(20, loss=1.0)) == [
        "Test loss: 1",
        "    Test net output #0: accuracy = 0.25",
        "    Test net output #1: loss = 2 (* 0.5 = 1 loss)",
    ]


def test_nan_has_no_sign():
    assert texts(scored(0, -NAN))[0] == "    Test net output #0: accuracy = nan"


def test_prefix_has_a_date_of_four_digits():
    stream = io.StringIO()
    GlogLines(stream)(Note("solver.cpp:332", "Optimization Done."))
    pattern = r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ solver\.cpp:332\] Optimization Done\.\n"
    assert re.fullmatch(pattern, stream.getvalue())


def bodies(log):
    """The lines of solver.cpp, sgd_solver.cpp and caffe.cpp, measured numbers replaced by `#`."""
    found = re.findall(r"^I\d+ [\d:.]+ +\d+ ((?:sgd_)?solver\.cpp|caffe\.cpp):\d+\] (.*)$", log, re.MULTILINE)
    keep = [f"{where}] {text}" for where, text in found]
    keep = [
        re.sub(r"(loss =|accuracy =|\* 1 =) \S+", r"\1 #", line).replace("# loss)", "#)") for line in keep
    ]
    return [re.sub(r"\(\S+ iter/s, \S+s/", "(# iter/s, #s/", line) for line in keep]


def test_the_lines_of_a_real_run(logged, capsys):
    """Thirty iterations of our own give Caffe's lines: their forms, order, iterations and rates."""
    Path("logged_solver.prototxt").write_text(golden("tools/logged_solver.prototxt").read_text())
    assert train.main(["-solver", "logged_solver.prototxt"]) == 0
    ours, caffes = bodies(capsys.readouterr().err), bodies(golden("tools/caffe_train.log").read_text())
    assert ours == caffes


def test_rows_have_the_columns_of_parse_log(tmp_path):
    rows = Rows(str(tmp_path / "run"))
    for event in (Started(0, 9), scored(0), displayed(0), scored(2), scored(2, net=1)):
        rows(event)
    assert table(tmp_path / "run_train.csv") == [
        ["NumIters", "Seconds", "LearningRate", "loss"],
        ["0.0", "1.0", "0.01", "0.5"],
    ]
    assert table(tmp_path / "run_test.csv") == [
        ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"],
        ["0.0", "3.0", "nan", "0.25", "2.0"],
        ["2.0", "3.0", "0.01", "0.25", "2.0"],
    ]
    assert len(table(tmp_path / "run_test1.csv")) == 2
    assert read(tmp_path / "run.jsonl")[1] == {
        "phase": "train",
        "iter": 0,
        "seconds": 1.0,
        "lr": 0.01,
        "loss": 0.5,
        "images_per_second": 640.0,
        "net": 0,
        "outputs": {"loss": 0.5},
    }


def test_nan_is_null_in_jsonl(tmp_path):
    rows = Rows(str(tmp_path / "run"))
    rows(scored(0, NAN))
    assert read(tmp_path / "run.jsonl")[0]["outputs"]["accuracy"] is None


def test_a_blob_of_several_numbers_has_several_columns(tmp_path):
    rows = Rows(str(tmp_path / "run"))
    rows(displayed(0, outputs=[Output("perclass", 0.1), Output("perclass", 0.2)]))
    assert table(tmp_path / "run_train.csv")[0][3:] == ["perclass[0]", "perclass[1]"]
    assert read(tmp_path / "run.jsonl")[0]["outputs"] == {"perclass": [0.1, 0.2]}


def test_resumed_rows_replace_those_from_the_resumed_iteration_on(tmp_path):
    first = Rows(str(tmp_path / "run"))
    for event in (
        Started(0, 9),
        displayed(0),
        displayed(2, seconds=5.0),
        displayed(4, seconds=7.0),
        scored(4),
    ):
        first(event)
    with open(tmp_path / "run.jsonl", "a") as log:
        log.write('{"phase": "tr')  # killed here
    second = Rows(str(tmp_path / "run"))
    for event in (Started(4, 9), displayed(4, loss=0.125, seconds=1.0)):
        second(event)
    rows = read(tmp_path / "run.jsonl")
    assert [(row["iter"], row["seconds"]) for row in rows] == [(0, 1.0), (2, 5.0), (4, 6.0)]
    assert rows[-1]["loss"] == 0.125
    assert [row[0] for row in table(tmp_path / "run_train.csv")] == ["NumIters", "0.0", "2.0", "4.0"]
    assert len(table(tmp_path / "run_test.csv")) == 1


def test_rows_that_a_later_snapshot_goes_with_are_set_aside(tmp_path):
    """Whoever resumes from an earlier one, to try something else, keeps what the later one was trained by."""
    first = Rows(str(tmp_path / "run"))
    for event in (Started(0, 9), displayed(0), displayed(2), displayed(4), scored(4)):
        first(event)
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "run_iter_6.solverstate").touch()
    second = Rows(str(tmp_path / "run"))
    for event in (Started(2, 9), displayed(2, loss=0.125)):
        second(event)
    assert [(row["iter"], row["loss"]) for row in read(tmp_path / "run.jsonl")] == [(0, 0.5), (2, 0.125)]
    assert {name: (tmp_path / f"{name}.1").read_bytes() for name in whole} == whole
    third = Rows(str(tmp_path / "run"))
    third(Started(5, 9))  # once more from an earlier one, but no row is after it
    third(Started(6, 9))  # from the newest
    assert not (tmp_path / "run.jsonl.2").exists() and not (tmp_path / "run_train.csv.2").exists()


def test_rows_are_there_whatever_goes_wrong_when_they_are_set_aside(tmp_path, monkeypatch):
    first = Rows(str(tmp_path / "run"))
    for event in (Started(0, 9), displayed(0), displayed(4)):
        first(event)
    (tmp_path / "run_iter_6.solverstate").touch()
    before = (tmp_path / "run.jsonl").read_bytes()

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("crnn.solver.rows.write_bytes", full)
        with pytest.raises(OSError, match="No space left"):
            Rows(str(tmp_path / "run"))(Started(2, 9))
    assert (tmp_path / "run.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "line", ["{", "[" * 100_000, "7", '{"iter": 0}', '{"phase": "train", "iter": "0"}', "\xff"]
)
def test_a_damaged_row_is_named(tmp_path, line):
    rows = Rows(str(tmp_path / "run"))
    rows(displayed(0))
    log = tmp_path / "run.jsonl"
    log.write_bytes(log.read_bytes() + line.encode("latin-1") + b"\n")
    before = log.read_bytes()
    for read_again in (lambda: rows(Started(4, 9)), lambda: read_rows(log)):
        with pytest.raises(ValueError, match=r"run\.jsonl: line 2 is no row of a training log"):
            read_again()
    assert log.read_bytes() == before


def test_a_damaged_row_of_a_table_is_named(tmp_path):
    rows = Rows(str(tmp_path / "run"))
    rows(displayed(0))
    with open(tmp_path / "run_train.csv", "a") as file:
        file.write("zero,1,2\n")
    with pytest.raises(ValueError, match=r"run_train\.csv: line 3 is no row of a training log"):
        rows(Started(4, 9))


def test_a_run_from_the_start_sets_older_rows_aside(tmp_path):
    for loss in (0.5, 0.25):
        rows = Rows(str(tmp_path / "run"))
        rows(Started(0, 9))
        rows(displayed(0, loss=loss))
    (tmp_path / "run_other_train.csv").touch()  # another run's
    assert read(tmp_path / "run.jsonl.1")[0]["loss"] == 0.5
    assert read(tmp_path / "run.jsonl")[0]["loss"] == 0.25
    assert (tmp_path / "run_train.csv.1").exists()


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(path):
    return list(csv.reader(path.read_text().splitlines()))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_loss_speed_and_tests():
    stream = Terminal()
    bar = Progress(stream)
    for event in (Started(0, 3), *(Stepped(i, 0.125, 32) for i in range(3)), scored(3), Finished(3)):
        bar(event)
    text = stream.getvalue()
    assert "3/3" in text and "loss 0.125" in text and "images/s" in text
    assert "iteration 3, test net 0: accuracy 0.25, loss 2" in text


def test_a_terminal_gets_the_bar_and_the_lines_go_to_a_file(logged):
    stream = Terminal()
    Solver(logged(display=2), listeners("out/run", stream)).solve()
    assert "4/4" in stream.getvalue() and "iter/s" not in stream.getvalue()
    assert "Iteration 2, lr = 1e-05" in Path("out/run.log").read_text()


def test_elsewhere_the_lines_go_to_the_stream(logged):
    stream = io.StringIO()
    Solver(logged(display=2), listeners("out/run", stream)).solve()
    assert "Iteration 2, lr = 1e-05" in stream.getvalue()
    assert not Path("out/run.log").exists()
    assert len(read(Path("out/run.jsonl"))) == 2


@pytest.mark.parametrize(
    "value, text", [(1e-5, "1e-05"), (87.33654, "87.3365"), (0.1, "0.1"), (1e6, "1e+06")]
)
def test_numbers_are_cs(value, text):
    assert texts(displayed(0, value))[0].endswith(f"loss = {text}")
