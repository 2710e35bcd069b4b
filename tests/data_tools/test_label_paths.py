"""crnn data paths and crnn data part: databases made from databases."""

import numpy as np
import pytest

from crnn.data.datum import encode
from crnn.data.lmdb_writer import LmdbWriter
from crnn.data_tools.label_paths import main as paths
from crnn.data_tools.part import main as part

TREE = "all\n  rock\t0\n  animal\n    dog\t2\n    cat\t1\n"  # animal 0, rock 1, cat 2, dog 3, end 4
LABELS = [2, 0, 1, 1, 2]


@pytest.fixture
def database(tmp_path):
    (tmp_path / "tree.txt").write_text(TREE)
    with LmdbWriter(tmp_path / "db") as db:
        for i, label in enumerate(LABELS):
            db.put(b"%05d" % i, encode(np.full((3, 2, 2), i, np.uint8), label))
    return tmp_path


def sequences(records):
    return [[int(value) for value in datum.float_data] for _, datum in records]


def test_each_record_has_the_path_of_its_label_under_its_key(database, contents):
    assert paths([str(database / name) for name in ("db", "tree.txt", "paths")]) == 0
    made = contents(database / "paths")
    assert [key for key, _ in made] == [key for key, _ in contents(database / "db")]
    assert sequences(made) == [[0, 3, 4], [1, 4, -1], [0, 2, 4], [0, 2, 4], [0, 3, 4]]
    assert {(d.channels, d.height, d.width) for _, d in made} == {(3, 1, 1)}
    assert [d.label for _, d in made] == LABELS


def test_a_net_with_more_steps_sees_padding(database, contents):
    paths([*(str(database / name) for name in ("db", "tree.txt", "paths")), "--steps", "5"])
    assert sequences(contents(database / "paths"))[1] == [1, 4, -1, -1, -1]


def test_a_net_with_too_few_steps_is_refused(database):
    with pytest.raises(ValueError, match="the path of 'cat' has 2 labels and an end, the net 2 steps"):
        paths([*(str(database / name) for name in ("db", "tree.txt", "paths")), "--steps", "2"])
    assert not (database / "paths").exists()


def test_a_label_that_is_not_in_the_tree_is_named(database):
    (database / "tree.txt").write_text("all\n  a\n  b\n")
    with pytest.raises(ValueError, match=r"record b'00000' has label 2 without a path: .* labels 0 to 1"):
        paths([str(database / name) for name in ("db", "tree.txt", "paths")])


def test_predicted_labels_stand_in_for_those_that_are_not_known(database, contents):
    keys = np.array([f"{i:05d}" for i in range(5)])
    np.savez(database / "a.npz", keys=keys, answers=np.array([1, 1, 2, 2, 0]))
    command = [*(str(database / name) for name in ("db", "tree.txt", "paths"))]
    paths([*command, "--answers", str(database / "a.npz"), "--known", "2"])
    assert [d.label for _, d in contents(database / "paths")] == [2, 0, 2, 2, 0]
    with pytest.raises(ValueError, match="--known takes 0 to 5"):
        paths([*command[:2], "x", "--answers", str(database / "a.npz"), "--known", "6"])
    np.savez(database / "b.npz", keys=keys)
    (database / "part.npz").write_bytes((database / "a.npz").read_bytes()[:-40])
    for name in ("b.npz", "part.npz"):
        with pytest.raises(ValueError, match=rf"{name} holds no label paths"):
            paths([*command[:2], "x", "--answers", str(database / name)])


def test_parts_that_meet_are_the_whole(database, contents):
    for name, first, last in (("a", "0", "0.4"), ("b", "0.4", "1")):
        part([str(database / "db"), str(database / name), first, last])
    whole = contents(database / "db")
    assert contents(database / "a") == whole[:2] and contents(database / "b") == whole[2:]


@pytest.mark.parametrize(
    "shares", [("0.5", "0.5"), ("0", "1.2"), ("0.6", "0.4"), ("0", "0.01"), ("0", "1e999"), ("nan", "1")]
)
def test_shares_that_are_none(database, shares):
    with pytest.raises(ValueError, match="of 5 records: wanted 0 <= FIRST < LAST <= 1 and a record"):
        part([str(database / "db"), str(database / "out"), *shares])
