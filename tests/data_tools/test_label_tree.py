"""crnn data tree: WordNet, the ImageNet 2010 rule, CIFAR-100, and any indented text."""

import numpy as np
import pytest

from crnn.data.label_tree import read_tree
from crnn.data_tools import label_tree
from crnn.data_tools.label_tree import main, ristin, wordnet

IS_A = """n00 n01
n00 n02
n01 n11
n02 n12
n11 n21
n21 n12
n11 n99
"""


@pytest.fixture
def lists(tmp_path):
    """n12 has two ways up, by n02 and by n21, n11, n01; n99 is no class."""
    (tmp_path / "is_a.txt").write_text(IS_A)
    (tmp_path / "synsets.txt").write_text("n12 tench, Tinca tinca\nn21 fox\n")
    (tmp_path / "words.txt").write_text("n01\tanimal, beast\nn11\tmammal\nn00\tentity\n")
    return [tmp_path / name for name in ("is_a.txt", "synsets.txt", "words.txt")]


def test_wordnet_goes_up_by_the_shortest_way(lists, tmp_path):
    (tmp_path / "synsets.txt").write_text("n12 tench, Tinca tinca\nn99\n")
    tree = wordnet(*lists)
    assert tree.root == "entity"
    assert [[tree.name(c) for c in tree.path(label)] for label in (0, 1)] == [
        ["n02", "tench"],
        ["animal", "mammal", "n99"],
    ]


def test_of_equal_ways_the_first_id_counts(tmp_path):
    (tmp_path / "is_a.txt").write_text("r b\nr a\nb x\na x\n")
    (tmp_path / "synsets.txt").write_text("x\n")
    tree = wordnet(tmp_path / "is_a.txt", tmp_path / "synsets.txt")
    assert [tree.name(c) for c in tree.path(0)] == ["a", "x"]


@pytest.mark.parametrize(
    ("is_a", "synsets", "message"),
    [
        ("r a\na\n", "a\n", r"is_a\.txt:2: 'a' is not `parent child`"),
        ("a b\nb a\nb x\n", "x\n", "a cycle: b -> a -> b"),
        ("r x\nq y\n", "x\ny\n", "two roots, 'r' and 'q'"),
        ("r x\n", "x\nn04\n", "label 'n04' has no path"),
    ],
)
def test_a_wordnet_that_is_no_tree(is_a, synsets, message, tmp_path):
    (tmp_path / "is_a.txt").write_text(is_a)
    (tmp_path / "synsets.txt").write_text(synsets)
    with pytest.raises(ValueError, match=message):
        wordnet(tmp_path / "is_a.txt", tmp_path / "synsets.txt")


def test_the_rule_of_the_imagenet_2010_subset():
    """Kept are two or more children, all leaves, of one parent: c1; the others fail in one point each."""
    children = {
        "root": ["c1", "c2", "c3", "c4", "c5"],
        "c1": ["b", "a"],
        "c2": ["only"],
        "c3": ["c4", "leaf"],
        "c4": ["shared", "own"],
        "c5": ["shared", "other"],
    }
    tree = ristin(children, {"a": "apple", "c1": "fruit"})
    assert tree.names == ("fruit", "apple", "b") and tree.sequences().tolist() == [[0, 1], [0, 2]]


def test_cifar100s_groups(tmp_path, unpack, capsys):
    rows = np.zeros((100, 2 + 3072), np.uint8)
    rows[:, 1], rows[:, 0] = np.arange(100), np.arange(100) // 5
    files = {"cifar-100-binary/train.bin": rows.tobytes()}
    for level, n in (("coarse", 20), ("fine", 100)):
        text = "".join(f"{level}{i}\n" for i in range(n)).encode()
        files[f"cifar-100-binary/{level}_label_names.txt"] = text
    unpack(tmp_path / "in", files)
    assert main(["cifar100", str(tmp_path / "in"), str(tmp_path / "tree.txt")]) == 0
    tree = read_tree(tmp_path / "tree.txt")
    assert (tree.inner, tree.leaves, tree.steps, tree.end) == (20, 100, 2, None)
    assert [tree.name(c) for c in tree.path(7)] == ["coarse1", "fine7"]
    assert "100 labels, 20 categories above them, depth 2: 120 categories in all" in capsys.readouterr().out


def test_any_indented_text_is_normalised(tmp_path, crnn):
    (tmp_path / "in.txt").write_text("all\n\tred\n\t\tcherry\n\tblue\n")
    result = crnn("data", "tree", "text", tmp_path / "in.txt", tmp_path / "out" / "tree.txt")
    assert result.returncode == 0
    assert (tmp_path / "out" / "tree.txt").read_text() == "all\n  red\n    cherry\t0\n  blue\t1\n"
    assert "depth 1 to 2, and an end: 4 categories in all, 3 steps" in result.stdout


def test_a_mistake_is_one_sentence(tmp_path, crnn):
    (tmp_path / "in.txt").write_text("a\nb\n")
    result = crnn("data", "tree", "text", tmp_path / "in.txt", tmp_path / "tree.txt")
    assert result.returncode == 1 and "'b' is a second root beside 'a'" in result.stderr
    assert "Traceback" not in result.stderr


def test_another_meta_file_is_refused(tmp_path):
    (tmp_path / "meta.mat").write_bytes(b"not a mat file".ljust(200))
    with pytest.raises(ValueError, match=r"meta\.mat is not ILSVRC2010's meta\.mat: not a MAT-file"):
        label_tree.imagenet2010(tmp_path / "meta.mat")
