"""The .resume.json beside a snapshot: what it holds, and that one of another form is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from crnn.net import weights
from tests.solver import sequence
from tests.solver.snapshots import refuses, saved

SCALE = {
    "scale": 65536.0,
    "growth_factor": 2.0,
    "backoff_factor": 0.5,
    "growth_interval": 2000,
    "_growth_tracker": 0,
}


def test_a_damaged_resume_file(logged):
    state = saved(logged)
    Path("out/run_iter_2.resume.json").write_text("{")
    refuses(
        logged,
        state,
        "run_iter_2.resume.json is damaged; remove it to use out/run_iter_2.solverstate without a check",
    )


@pytest.mark.parametrize(
    "old, new", [('"seed": 1', '"seed": 3'), ('"position": 8', '"position": 9'), ("losses", "lossfs")]
)
def test_a_changed_resume_file(logged, old, new):
    state, path = saved(logged), Path("out/run_iter_2.resume.json")
    path.write_text(path.read_text().replace(old, new))
    refuses(logged, state, "run_iter_2.resume.json is damaged")


@pytest.mark.parametrize("content", ["[]", "7", '{"sha256": []}', "[" * 100_000], ids=lambda text: text[:9])
def test_a_resume_file_of_another_form(logged, content):
    state = saved(logged)
    Path("out/run_iter_2.resume.json").write_text(content)
    refuses(logged, state, "run_iter_2.resume.json is damaged")


@pytest.mark.parametrize(
    "part",
    [
        {"seed": "1"},
        {"losses": 0.5},
        {"losses": ["0.5"]},
        {"data": [{"data": {"position": 8.5}}]},
        {"data": [{"data": {"next": 1}}]},
        {"data": [7]},
        {"data": None},
        {"data": [{"data": {"position": -1}}]},
        {"seed": 1 << 63},
        {"states": None},
        {"states": ["data"]},
        {"states_of_other_ranks": [7]},
        {"loss_scale": []},
        {"loss_scale": {"scale": 65536.0}},
        {"loss_scale": {**SCALE, "scale": "65536"}},
        {"loss_scale": {**SCALE, "scale": float("nan")}},
        {"loss_scale": {**SCALE, "backoff_factor": 2.0}},
    ],
    ids=str,
)
def test_a_resume_file_whose_parts_are_of_other_types(logged, part):
    """Nothing is put into a solver or a loader that its own snapshot would not hold."""
    state = saved(logged)
    resume = weights.read_resume(state)
    weights.write_resume(state, {**resume, **part})
    refuses(logged, state, "run_iter_2.resume.json is damaged; remove it to let the data begin anew")


@pytest.mark.parametrize(
    "carried",
    [
        {},
        {"rnn": 0.5},
        {"rnn": [[[0.5] * 3]]},
        {"rnn": [[[0.5] * 4]] * 2},
        {"rnn": [[[0.5] * 3], [[0.5] * 3] * 2]},
        {"rnn": [[["0.5"] * 3]] * 2},
        {"rnn": [[0.5] * 3] * 2},
    ],
    ids=str,
)
def test_carried_states_that_are_not_this_nets(logged, carried):
    fields = sequence.written()
    state = saved(logged, **fields)
    resume = weights.read_resume(state)
    assert np.shape(resume["states"][0]["rnn"]) == (2, 2, 3)
    weights.write_resume(state, {**resume, "states": [carried]})
    message = "run_iter_2.resume.json is of another net: layer 'rnn' carries 2 states of 3 channels, there"
    refuses(logged, state, message, **fields)


def test_resume_json_names_what_makes_it_exact(logged):
    saved(logged)
    resume = json.loads(Path("out/run_iter_2.resume.json").read_text())
    assert resume["seed"] == 1
    assert [list(net) for net in resume["data"]] == [["data"]]
    assert resume["data"][0]["data"]["position"] == 8
