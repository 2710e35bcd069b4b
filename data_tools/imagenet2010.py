"""ImageNet 2010's subset of two levels (Ristin 2015): 387 fine kinds in 143 coarse ones, with label paths.

SOURCE holds, as downloaded or unpacked:
  ILSVRC2010_images_train.tar       or train/nXXXXXXXX/*.JPEG    (124 GB; only the subset's classes are read)
  ILSVRC2010_images_test.tar        or test/*.JPEG
  ILSVRC2010_test_ground_truth.txt
  ILSVRC2010_devkit-1.0.tar.gz      or devkit-1.0/
All of them: https://image-net.org/challenges/LSVRC/2010/2010-downloads.php (an account is needed).

Kept are the classes by the rule of `crnn data tree imagenet2010`, labels in the order of their WordNet ids:
487,809 training images. The published test set has 150 images of each coarse class, 21,450; which these are
is not published to us, so they are the first of each in the order of the official test set.

Writes OUT/train_lmdb and OUT/test_lmdb (256 x 256, raw, shuffled: 98 GB and 4 GB), the label paths beside
them under the same keys, OUT/train_paths_lmdb and OUT/test_paths_lmdb, OUT/mean.binaryproto, OUT/tree.txt
and OUT/synsets.txt.

  crnn data convert imagenet2010 downloads/ data/imagenet2010
"""

import argparse
import sys
from collections import Counter

import numpy as np

from crnn.data.label_tree import LabelTree
from crnn.data_tools import _convert, _official
from crnn.data_tools._archive import Folder, read
from crnn.data_tools._images import Record
from crnn.data_tools._manifest import digest_of
from crnn.data_tools._write import Database
from crnn.data_tools.label_tree import read_meta, ristin

NAME = "imagenet2010"
DEVKIT = "devkit-1.0"
META, TRUTH = f"{DEVKIT}/data/meta.mat", "ILSVRC2010_test_ground_truth.txt"
OFFICIAL = {"train": 487_809, "test": 21_450}
TEST_EACH = 150  # images of a coarse class
TEST_NAME = "ILSVRC2010_test_{:08d}.JPEG"


def arguments(parser: argparse.ArgumentParser) -> None:
    _official.arguments(parser)
    _official.parts(parser, "train", "test")


def databases(args: argparse.Namespace) -> list[Database]:
    devkit = _official.find(args, (f"ILSVRC2010_{DEVKIT}.tar.gz",), DEVKIT)
    meta = read(devkit.source(META))
    children, names, wnid = read_meta(meta, f"{devkit.path}: {META}")
    tree, ids = ristin(children, names), ristin(children, {})
    synsets = list(ids.names[ids.inner :])
    made = []
    for part in args.parts:
        files = _official.find(args, (f"ILSVRC2010_images_{part}.tar",), part, part, nested=part == "train")
        inputs = {**_official.archive_of(files), "meta.mat": digest_of(meta)}
        if part == "train":
            named = _train(files, {one: label for label, one in enumerate(synsets)})
        else:
            truth = read(Folder(args.source).source(TRUTH))
            inputs[TRUTH] = digest_of(truth)
            named = _test(files, truth, wnid, synsets, tree)
        made += _pair(args, part, named, tree, inputs)
    _official.write_lines(args.out / "synsets.txt", synsets)
    (args.out / "tree.txt").write_text(tree.text(), encoding="utf-8")
    return made


def _pair(args, part: str, named: list, tree: LabelTree, inputs: dict) -> list[Database]:
    """The database of the images and that of their label paths."""
    paths = tree.sequences().astype(np.float32)[:, :, None, None]
    records = [Record(name, source, label, paths[label]) for name, source, label in named]
    mean = args.out / "mean.binaryproto" if part == "train" else None
    rest = {"classes": tree.leaves, "official": OFFICIAL[part], "inputs": inputs}
    return [
        Database(args.out / f"{part}_lmdb", records, mean=mean, **rest),
        Database(args.out / f"{part}_paths_lmdb", records, beside=True, **rest),
    ]


def _train(files, label: dict[str, int]) -> list[tuple]:
    """(name, source, label) of the images of the subset's classes."""
    found = []
    for name in files.names():
        wnid = name.partition("/")[0]
        if wnid in label and name.upper().endswith((".JPEG", ".JPG")):
            found.append((name, files.source(name), label[wnid]))
    lacking = sorted(set(label) - {name.partition("/")[0] for name, _, _ in found})
    if lacking:
        raise ValueError(f"{files.path} has no images of {lacking[0]}, one of {len(label):,} classes")
    return found


def _test(files, truth: bytes, wnid: dict[int, str], synsets: list[str], tree: LabelTree) -> list[tuple]:
    """(name, source, label) of the first TEST_EACH images of each coarse class."""
    label = {number: synsets.index(one) for number, one in wnid.items() if one in synsets}
    places = {name.rpartition("/")[2]: name for name in files.names()}
    counts, found = Counter(), []
    for i, line in enumerate(_official.lines(truth), 1):
        if not line.isdecimal() or int(line) not in wnid:
            raise ValueError(f"{TRUTH}:{i}: {line!r} is no ILSVRC2010_ID of the devkit's")
        name, own = TEST_NAME.format(i), label.get(int(line))
        if own is None or counts[tree.path(own)[0]] == TEST_EACH:
            continue
        counts[tree.path(own)[0]] += 1
        found.append((name, files.source(places.get(name, name)), own))
    return found


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
