"""The subset of ILSVRC 2010 out of tiny archives of the same form: two coarse classes of two kinds each."""

from pathlib import Path

import pytest

from crnn.data.label_tree import read_tree
from crnn.data_tools import imagenet2010 as tool
from crnn.proto.blobs import read_mean

#: IDs 1 n03 pear, 2 n01 apple, 3 n04 husky, 4 n02 basenji; 5 n05 is the only one below its parent.
META = (Path(__file__).parent / "files" / "meta2010.mat").read_bytes()
KEPT = ["n01", "n02", "n03", "n04"]  # labels 0 to 3: apple, basenji, pear, husky
TRUTH = [5, 1, 1, 3, 2, 4, 1]
TEST_LABELS = {2: 2, 3: 2, 4: 3, 5: 0, 6: 1, 7: 2}  # of image n; of the first there is no class


@pytest.fixture
def parts(photo):
    """The files of each part, as unpacked."""
    train = {f"train/{wnid}/{wnid}_{i}.JPEG": photo(i) for wnid in (*KEPT, "n05") for i in (3, 11)}
    test = {f"test/{tool.TEST_NAME.format(i)}": photo(i) for i in range(1, 8)}
    lists = {tool.META: META, tool.TRUTH: "".join(f"{n}\n" for n in TRUTH).encode()}
    return train, test, lists


@pytest.fixture
def folder(parts, unpack, tmp_path):
    for part in parts:
        unpack(tmp_path / "in", part)
    return tmp_path / "in"


def convert(source, out, *flags) -> None:
    assert tool.main([str(source), str(out), "--resize-width=16", "--resize-height=16", *flags]) == 0


def test_the_subsets_classes_become_databases_with_paths(folder, tmp_path, contents):
    out = tmp_path / "out"
    convert(folder, out)
    train, test = contents(out / "train_lmdb"), contents(out / "test_lmdb")
    assert sorted((key[9:12], datum.label) for key, datum in train) == [
        (wnid, label) for label, wnid in enumerate(KEPT) for _ in range(2)
    ]
    assert {int(key[-13:-5]): datum.label for key, datum in test} == TEST_LABELS
    tree = read_tree(out / "tree.txt")
    assert tree.names == ("fruit", "dog", "apple", "basenji", "pear", "husky")
    for part, images in (("train", train), ("test", test)):
        paths = contents(out / f"{part}_paths_lmdb")
        assert [key for key, _ in paths] == [key for key, _ in images]
        labels = [datum.label for _, datum in images]
        assert [list(datum.float_data) for _, datum in paths] == [tree.path(label) for label in labels]
    assert read_mean(out / "mean.binaryproto").shape == (3, 16, 16)
    assert (out / "synsets.txt").read_text().split() == KEPT


def test_the_first_images_of_a_coarse_class_are_the_test(folder, tmp_path, contents, monkeypatch):
    """Two of fruit, of which there are four; both dogs."""
    monkeypatch.setattr(tool, "TEST_EACH", 2)
    convert(folder, tmp_path / "out", "--parts", "test")
    found = contents(tmp_path / "out/test_lmdb")
    assert sorted(int(key[-13:-5]) for key, _ in found) == [2, 3, 4, 6]


def test_archives_give_the_same(parts, folder, tar, tmp_path, contents):
    train, test, lists = parts
    source, inner = tmp_path / "archives", {}
    for wnid in (*KEPT, "n05"):
        files = {Path(name).name: data for name, data in train.items() if f"/{wnid}/" in name}
        tar(tmp_path / f"{wnid}.tar", files)
        inner[f"{wnid}.tar"] = (tmp_path / f"{wnid}.tar").read_bytes()
    tar(source / "ILSVRC2010_images_train.tar", inner)
    tar(source / "ILSVRC2010_images_test.tar", test)
    tar(source / "ILSVRC2010_devkit-1.0.tar.gz", {tool.META: META})
    (source / tool.TRUTH).write_bytes(lists[tool.TRUTH])
    convert(source, tmp_path / "a")
    convert(folder, tmp_path / "b")
    for name in ("train_lmdb", "test_lmdb", "test_paths_lmdb"):
        assert contents(tmp_path / "a" / name) == contents(tmp_path / "b" / name)


def test_what_is_missing_is_named(folder, tmp_path):
    (folder / tool.TRUTH).write_text("1\nx\n")
    with pytest.raises(ValueError, match=r"ground_truth\.txt:2: 'x' is no ILSVRC2010_ID of the devkit's"):
        convert(folder, tmp_path / "out", "--parts", "test")
    for image in (folder / "train" / "n02").iterdir():
        image.unlink()
    with pytest.raises(ValueError, match="has no images of n02, one of 4 classes"):
        convert(folder, tmp_path / "out", "--parts", "train")
    (folder / tool.META).write_bytes(b"no".ljust(200))
    with pytest.raises(ValueError, match=r"meta\.mat is not ILSVRC2010's meta\.mat"):
        convert(folder, tmp_path / "out")
