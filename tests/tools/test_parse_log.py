"""`crnn parse-log`: the CSVs of Caffe's parse_log.py from Caffe's logs and from ours."""

import csv
import math
import re
from pathlib import Path

import pytest

from crnn.__main__ import main
from crnn.solver.log import GlogLines
from crnn.solver.solver import Solver
from crnn.testing import golden

CAFFE = golden("tools/caffe_train.log")


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def parsed(tmp_path, monkeypatch):
    """text -> the rows of its CSVs by their endings."""
    monkeypatch.chdir(tmp_path)

    def parse(text):
        Path("a.log").write_text(text)
        assert main(["parse-log", "a.log", "."]) == 0
        return {kind: rows(f"a.log.{kind}") for kind in ("train", "test") if Path(f"a.log.{kind}").exists()}

    return parse


def test_caffes_log_of_either_date_form(parsed):
    """Caffe's own parse_log.py, run on the log with four-digit dates, wrote these rows."""
    found = parsed(CAFFE.read_text())
    assert found == parsed(re.sub("(?m)^I2026", "I", CAFFE.read_text()))
    assert [row["NumIters"] for row in found["train"]] == ["0.0", "5.0", "10.0", "15.0", "20.0", "25.0"]
    assert found["test"][:2] == [
        {
            "NumIters": "0.0",
            "Seconds": "0.004353",
            "LearningRate": "0.001",
            "accuracy": "0.333333",
            "loss": "3.52187",
        },
        {
            "NumIters": "10.0",
            "Seconds": "0.006671",
            "LearningRate": "0.001",
            "accuracy": "0.25",
            "loss": "65.5024",
        },
    ]
    assert [row["LearningRate"] for row in found["test"]] == ["0.001", "0.001", "0.001", "0.0001"]


def test_our_log_says_what_our_own_csvs_say(logged, parsed):
    with open("ours.log", "w") as log:
        Solver(logged(max_iter=6, display=2, test_iter=1, test_interval=3), [GlogLines(log)]).solve()
    text = Path("ours.log").read_text()
    found = parsed(text)
    assert [row["NumIters"] for row in found["train"]] == ["0.0", "2.0", "4.0"]
    assert [row["NumIters"] for row in found["test"]] == ["0.0", "3.0", "6.0"]
    assert list(found["test"][0]) == ["NumIters", "Seconds", "LearningRate", "accuracy", "loss"]
    # What parse_log.sh counts on: awk's columns, outputs 0 and 1 of a test, dates without a year.
    tests = [line.split() for line in text.splitlines() if "Test net output" in line]
    assert [words[8] for words in tests[:2]] == ["accuracy", "loss"]
    assert [words[10] for words in tests[:2]] == [found["test"][0]["accuracy"], found["test"][0]["loss"]]
    rates = [line.split() for line in text.splitlines() if ", lr = " in line]
    assert {words[8] for words in rates} == {"1e-05"}
    stamped = [line for line in text.splitlines() if "] " in line and line.startswith("I")]
    assert all(
        re.match(r"I\d{4} \d\d:\d\d:\d\d\.\d{6} +\d+ \w+\.(cpp|py)(:\d+)?\] ", line) for line in stamped
    )


HEAD = "I1231 23:59:58.000000 1 solver.cpp:1] Solving n\n"
LINE = "I{} 1 solver.cpp:1]     Train net output #0: loss = {}\n"


def test_a_year_that_ends_values_that_are_not_numbers_and_runs_one_after_the_other(parsed):
    found = parsed(
        "noise\n"
        + HEAD
        + "I1231 23:59:59.000000 1 solver.cpp:1] Iteration 0, loss = nan\n"
        + LINE.format("1231 23:59:59.500000", "-nan")
        + "I0101 00:00:01.000000 1 solver.cpp:1] Iteration 0, lr = 0.5\n"
        + LINE.format("0101 00:00:02.000000", "inf")
    )["train"]
    assert [float(row["Seconds"]) for row in found] == [1.5, 4.0]
    assert math.isnan(float(found[0]["loss"])) and found[1]["loss"] == "inf"
    assert [row["LearningRate"] for row in found] == ["0.5", "0.5"]


def test_delimiter_and_verbose(tmp_path, capsys):
    assert main(["parse-log", str(CAFFE), str(tmp_path), "-delimiter", ";", "--verbose"]) == 0
    assert capsys.readouterr().out.count("Wrote ") == 2
    head = (tmp_path / "caffe_train.log.train").read_text().splitlines()[0]
    assert head == "NumIters;Seconds;LearningRate;loss"


@pytest.mark.parametrize(
    "words, message",
    [
        (["nowhere.log"], "nowhere.log"),
        ([str(golden("tools/list.txt"))], "has no line `Train net output`"),
        ([str(CAFFE), "nowhere"], "there is no folder nowhere"),
        ([str(CAFFE), "--delimiter", "ab"], "--delimiter is one character"),
    ],
)
def test_what_is_no_log(words, message, capsys):
    assert main(["parse-log", *words]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "line, message",
    [
        ("I1399 10:00:00.000 1 solver.cpp:1] Solving net", "line 1 has no date and time: 1399 10:00:00.000"),
        ("I20261122 25:00:00.000 1 a.cpp:1] Solving net", "line 1 has no date and time: 1122 25:00:00.000"),
    ],
)
def test_a_line_that_cannot_be_is_named(tmp_path, capsys, line, message):
    log = tmp_path / "bad.log"
    log.write_text(line + "\n")
    assert main(["parse-log", str(log), str(tmp_path)]) == 1
    assert f"{log}: {message}" in capsys.readouterr().err
