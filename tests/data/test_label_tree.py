"""Label trees: the text, the vocabulary, sequences, which label may follow which, and what is refused."""

import numpy as np
import pytest

from crnn.data.label_tree import from_parents, parse_tree, read_tree

TWO = """\
# CIFAR's form
things
  animal
    cat\t2
    dog\t0
  plant
    fern\t1
"""
UNEVEN = "things\n  rock\n  animal\n    dog\n      basenji\n    cat\n"


def tree(text):
    return parse_tree(text.splitlines(True), "t.txt")


def test_inner_nodes_come_first_then_leaves_by_label():
    t = tree(TWO)
    assert t.names == ("animal", "plant", "dog", "fern", "cat")
    assert (t.root, t.inner, t.leaves, t.categories, t.steps, t.end) == ("things", 2, 3, 5, 2, None)
    assert [t.path(label) for label in range(3)] == [[0, 2], [1, 3], [0, 4]]
    assert t.sequences().tolist() == [[0, 2], [1, 3], [0, 4]]


def test_paths_of_many_lengths_have_an_end_and_padding():
    t = tree(UNEVEN)  # leaves as they stand: rock, basenji, cat
    assert t.names == ("animal", "dog", "rock", "basenji", "cat")
    assert (t.end, t.categories, t.steps, t.depths) == (5, 6, 4, [1, 3, 2])
    assert t.sequences().tolist() == [[2, 5, -1, -1], [0, 1, 3, 5], [0, 4, 5, -1]]
    assert t.sequences(5)[0].tolist() == [2, 5, -1, -1, -1]
    assert [t.name(i) for i in (2, 5)] == ["rock", "end"]


def test_what_may_follow_what():
    t = tree(UNEVEN)
    allowed = [np.flatnonzero(row).tolist() for row in t.follows]
    assert allowed == [[1, 4], [3], [5], [5], [5], [5], [0, 2]]  # the last row: at the start
    assert [np.flatnonzero(row).tolist() for row in tree(TWO).follows] == [[2, 4], [3], [], [], [], [0, 1]]


@pytest.mark.parametrize("text", [TWO, UNEVEN])
def test_the_text_of_a_tree_is_that_tree(text, tmp_path):
    (tmp_path / "tree.txt").write_text(tree(text).text())
    assert read_tree(tmp_path / "tree.txt") == tree(text)


def test_tabs_may_indent():
    assert tree("r\n\ta\n\t\tx\n\t\ty\n").path(1) == [0, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n  b\nc\n", r"t\.txt:3: 'c' is a second root beside 'a'"),
        ("a\n    b\n  c\n", r"t\.txt:3: 'c' is indented as no line above it"),
        ("a\n", r"t\.txt has no labels"),
        ("a\n  b\t0\n  c\t0\n", r"t\.txt:3: 'c' has label '0', wanted one of 0 to 1, each once"),
        ("a\n  b\t0\n  c\t7\n", r"t\.txt:3: 'c' has label '7'"),
        ("a\n  b\t0\n  c\n", r"t\.txt:3: 'c' has label ''"),
        ("a\n  b\n  c\t0\n", r"t\.txt: 'b' has no label, others have"),
        ("a\n  b\t0\n    c\t0\n", r"t\.txt:2: 'b' has label 0 and lines below it"),
        ("a\n  b\n  b\n", r"t\.txt:3: 'b' stands twice below 'a'"),
    ],
)
def test_a_wrong_text_is_named_with_its_line(text, message):
    with pytest.raises(ValueError, match=message):
        tree(text)


def test_a_label_without_a_path():
    with pytest.raises(ValueError, match="label 3 has no path: the tree has labels 0 to 2"):
        tree(TWO).path(3)


def test_a_path_longer_than_the_nets_steps():
    with pytest.raises(ValueError, match="the path of 'basenji' has 3 labels and an end, the net 3 steps"):
        tree(UNEVEN).sequences(3)
    with pytest.raises(ValueError, match="the path of 'dog' has 2 labels, the net 1 steps"):
        tree(TWO).sequences(1)


def test_a_tree_of_parents_keeps_what_is_above_its_labels():
    t = from_parents({"dog": "animal", "animal": "all", "fern": "all", "stone": "earth"}, ["fern", "dog"])
    assert (t.names, t.root, t.path(0), t.path(1)) == (("animal", "fern", "dog"), "all", [1], [0, 2])


@pytest.mark.parametrize(
    ("parent", "leaves", "message"),
    [
        ({"x": "a", "a": "b", "b": "a"}, ["x"], "a cycle: a -> b -> a"),
        ({"x": "a", "y": "b"}, ["x", "y"], "two roots, 'a' and 'b': put one above both"),
        ({"x": "a"}, ["x", "y"], "label 'y' has no path: nothing is above it"),
        ({"x": "a", "a": "r"}, ["x", "a"], "label 'a' is above other labels"),
    ],
)
def test_what_is_no_tree_is_refused(parent, leaves, message):
    with pytest.raises(ValueError, match=message):
        from_parents(parent, leaves)
