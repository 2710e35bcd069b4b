"""ImageNet's ILSVRC 2012: 1,281,167 + 50,000 photographs of 1,000 classes.

SOURCE holds, as downloaded or unpacked:
  ILSVRC2012_img_train.tar       or train/nXXXXXXXX/*.JPEG    138 GB, md5 1d675b47d978889d74fa0da5fadfb00e
  ILSVRC2012_img_val.tar         or val/*.JPEG (or val/nXXXXXXXX/*.JPEG)
                                                              6.3 GB, md5 29b22e2961454d5413ddabcf34fc5622
  ILSVRC2012_devkit_t12.tar.gz   or ILSVRC2012_devkit_t12/    2.5 MB, md5 fa75699e90414af021442c21a62c3abf
  and, if wanted, Caffe's lists: caffe_ilsvrc12.tar.gz, or train.txt, val.txt, synsets.txt, synset_words.txt
The first three: https://image-net.org/challenges/LSVRC/2012/2012-downloads.php (an account is needed);
Caffe's lists: http://dl.caffe.berkeleyvision.org/caffe_ilsvrc12.tar.gz. The tars are read where they lie.

The label is the rank of the class's WordNet id, as in Caffe; the devkit's own numbers are not used. With both
the devkit and Caffe's lists the two must agree. Caffe's lists need no devkit.

Writes OUT/train_lmdb, OUT/val_lmdb (256 x 256 without keeping the aspect, raw, shuffled: 257 GB and 10 GB),
OUT/mean.binaryproto, OUT/synsets.txt, OUT/synset_words.txt.

  crnn data convert ilsvrc2012 downloads/ data/ilsvrc2012
"""

import argparse
import sys

from crnn.data_tools import _convert, _official
from crnn.data_tools._archive import Folder, Tar, read
from crnn.data_tools._images import Record
from crnn.data_tools._manifest import digest_of
from crnn.data_tools._matfile import read_variable
from crnn.data_tools._write import Database
from crnn.data_tools.imageset import parse_list

NAME = "ilsvrc2012"
DEVKIT = "ILSVRC2012_devkit_t12"
LISTS = ("train.txt", "val.txt", "synsets.txt", "synset_words.txt")
OFFICIAL = {"train": 1_281_167, "val": 50_000}
VAL_NAME = "ILSVRC2012_val_{:08d}.JPEG"


def arguments(parser: argparse.ArgumentParser) -> None:
    _official.arguments(parser)
    _official.parts(parser, "train", "val")


def databases(args: argparse.Namespace) -> list[Database]:
    caffe, devkit = _caffe_lists(args), _Devkit.find(args)
    made, images = [], {part: _images(args, part) for part in args.parts}
    synsets = _synsets(caffe, devkit, images.get("train"))
    rank = {wnid: label for label, wnid in enumerate(synsets)}
    for part, files in images.items():
        listed = parse_list(caffe[f"{part}.txt"], f"{part}.txt") if f"{part}.txt" in caffe else None
        pairs = _train(files, rank, listed) if part == "train" else _val(args, devkit, rank, listed)
        inputs = {**_official.archive_of(files), **(devkit.inputs if devkit else {})}
        inputs |= {name: digest_of(data) for name, data in caffe.items()}
        flat = _by_file_name(files) if part == "val" else {}
        made.append(
            Database(
                args.out / f"{part}_lmdb",
                [Record(name, files.source(flat.get(name, name)), label) for name, label in pairs],
                mean=args.out / "mean.binaryproto" if part == "train" else None,
                classes=len(synsets),
                official=OFFICIAL[part],
                inputs=inputs,
            )
        )
    _write_classes(args, caffe, devkit, synsets)
    return made


def _images(args: argparse.Namespace, part: str):
    return _official.find(args, (f"ILSVRC2012_img_{part}.tar",), part, part, nested=part == "train")


def _caffe_lists(args: argparse.Namespace) -> dict[str, bytes]:
    """Those of Caffe's lists that are there, by name: files of SOURCE, or else of Caffe's archive."""
    archive = args.source / "caffe_ilsvrc12.tar.gz"
    unpacked = any((args.source / name).is_file() for name in LISTS)
    files = Tar(archive, args.work) if archive.is_file() and not unpacked else Folder(args.source)
    return {name: read(files.source(name)) for name in LISTS if name in files}


class _Devkit:
    """The development kit: names of the classes, and the class of each validation image, `truth`."""

    META, TRUTH = f"{DEVKIT}/data/meta.mat", f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt"

    def __init__(self, meta: bytes, truth: bytes, where: str):
        self.inputs = {
            "meta.mat": digest_of(meta),
            "ILSVRC2012_validation_ground_truth.txt": digest_of(truth),
        }
        try:
            rows = read_variable(meta, "synsets")
            leaves = [
                row for row in rows if not row["num_children"].item()
            ]  # the others are WordNet's inner nodes
            wnid = {int(row["ILSVRC2012_ID"].item()): row["WNID"] for row in leaves}
            self.words = {row["WNID"]: row["words"] for row in leaves}
            self.truth = [wnid[int(line)] for line in _official.lines(truth)]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where}: {self.META} and its ground truth do not fit: {error}") from None

    @classmethod
    def find(cls, args: argparse.Namespace) -> "_Devkit | None":
        try:
            files = _official.find(args, (f"{DEVKIT}.tar.gz",), DEVKIT)
        except FileNotFoundError:
            return None
        return cls(read(files.source(cls.META)), read(files.source(cls.TRUTH)), files.path)


def _synsets(caffe: dict[str, bytes], devkit: _Devkit | None, train) -> list[str]:
    """The classes in the order of their labels. Raises ValueError where two sources disagree."""
    known = {}
    if "synsets.txt" in caffe:
        known["synsets.txt"] = _official.lines(caffe["synsets.txt"])
    if devkit:
        known["the devkit"] = sorted(devkit.words)
    if not known and train is not None:
        known["the training images"] = sorted({name.partition("/")[0] for name in train.names()})
    (first, synsets), *others = known.items() or [("", [])]
    for name, other in others:
        if other != synsets:
            raise ValueError(f"{first} and {name} name different classes: {_difference(synsets, other)}")
    if not synsets:
        raise FileNotFoundError(
            f"SOURCE holds neither {DEVKIT}.tar.gz nor synsets.txt: --help says where to get them"
        )
    return synsets


def _difference(one: list[str], other: list[str]) -> str:
    unlike = sorted(set(one) ^ set(other))
    return f"{unlike[0]} is in one only" if unlike else "in another order"


def _train(files, rank: dict[str, int], listed: list[tuple[str, int]] | None) -> list[tuple[str, int]]:
    """(name, label) of the training images: of the list, or of all in the order of their names."""
    pairs = listed
    if pairs is None:
        names = [name for name in files.names() if name.upper().endswith((".JPEG", ".JPG"))]
        unknown = {name.partition("/")[0] for name in names} - set(rank)
        if unknown:
            raise ValueError(f"{files.path}: {sorted(unknown)[0]} is not one of the {len(rank):,} classes")
        pairs = [(name, rank[name.partition("/")[0]]) for name in names]
    for name, label in pairs:
        if rank.get(name.partition("/")[0]) != label:
            raise ValueError(
                f"train.txt: {name} has label {label}, its class {rank.get(name.partition('/')[0])}"
            )
    return pairs


def _val(args, devkit: _Devkit | None, rank: dict[str, int], listed) -> list[tuple[str, int]]:
    if devkit is None and listed is None:
        raise FileNotFoundError(
            f"{args.source} holds neither {DEVKIT}.tar.gz nor Caffe's val.txt, which have the labels of val: "
            "--help says where to get them, --parts train does without"
        )
    if devkit is None:
        return listed
    pairs = [(VAL_NAME.format(n), rank[wnid]) for n, wnid in enumerate(devkit.truth, 1)]
    if listed is not None and set(listed) != set(pairs):
        name, _ = min(set(listed) ^ set(pairs))
        raise ValueError(f"val.txt and the devkit disagree, first on {name}: get both again")
    return listed or pairs


def _by_file_name(files) -> dict[str, str]:
    """Where each file is, should somebody have sorted the validation images into a folder a class."""
    return {name.rpartition("/")[2]: name for name in files.names()}


def _write_classes(args, caffe: dict[str, bytes], devkit: _Devkit | None, synsets: list[str]) -> None:
    _official.write_lines(args.out / "synsets.txt", synsets)
    if "synset_words.txt" in caffe:
        rows = _official.lines(caffe["synset_words.txt"])
    else:
        rows = [f"{wnid} {devkit.words[wnid]}" for wnid in synsets] if devkit else []
    if rows:
        _official.write_lines(args.out / "synset_words.txt", rows)


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
