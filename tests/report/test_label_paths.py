"""The part of a report about label paths: wrong labels crossed out, a picture a step."""

import numpy as np
import pytest

from crnn.report.label_paths import Said, StatePlot, Told, section


@pytest.fixture
def told():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (4, 5, 3), np.uint8)
    paths = {
        "CNN-RNN": [("cats & dogs", True), ("<cat>", False)],
        "coarse": [("cats & dogs", True)],
        "none": [],
    }
    groups, names = np.arange(14) % 7, {i: f"group {i}" for i in range(7)}
    plots = [StatePlot(t, rng.normal(size=(14, 2)), groups, names) for t in (1, 2)]
    example = Said("00000001_a", "right at first, then wrong", image, ["cats & dogs", "dog"], paths)
    return Told("CNN-RNN", [example], plots, True)


def test_paths_stand_under_the_truth_with_wrong_labels_crossed_out(told):
    html = section(told)
    assert "<b>cats &amp; dogs → dog</b>" in html
    assert "<td>CNN-RNN</td><td>cats &amp; dogs → <del>&lt;cat&gt;</del></td>" in html
    assert "<td>coarse</td><td>cats &amp; dogs</td>" in html and "<td>none</td><td>nothing</td>" in html
    assert "CNN-RNN: right at first, then wrong" in html and "00000001_a" in html


def test_states_are_a_picture_a_step_the_same_for_equal_input(told):
    html = section(told)
    assert html.count("<svg") == 2 and "step 1" in html and "step 2" in html
    assert html == section(told)


def test_without_scikit_learn_a_sentence_stands_in_their_place(told):
    html = section(Told(told.net, told.examples, [], False))
    assert "needs scikit-learn: pip install crnn[svm]" in html and "<svg" not in html
