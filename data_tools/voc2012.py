"""PASCAL VOC 2012: 2,913 photographs with label maps of 20 classes, with SBD 12,031.

SOURCE holds, as downloaded or unpacked:
  VOCtrainval_11-May-2012.tar   or VOCdevkit/VOC2012/    1.9 GB, md5 6cd6e144f989b92b3379bac3b3de84fd
from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/; DIR of --sbd, which may be SOURCE, holds
  benchmark.tgz                 or benchmark_RELEASE/    md5 82b4d87ceb2ed10f6038a1cba92111cb
from https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz.
The tar is read where it lies; the .tgz is first expanded in OUT.

Without SBD: the published split, 1,464 images to train and 1,449 to test on. With SBD the split of the L-RNN
paper, 11,685 and 346: the test images are those of VOC's val that SBD does not have; all others train.
An image that both have a map of gets VOC's, the only one with unlabelled pixels (255).

Images and maps have the same keys. A map is a Datum of one channel: 0 background, 1 to 20 classes, 255 not
counted. Both are scaled to fit into 384 x 384 and padded at the right and below, images with ImageNet's mean
colour, maps with 255. --fit warp distorts them instead; --resize-width 0 --resize-height 0 leaves their size.

Writes OUT/train_lmdb, OUT/train_maps_lmdb, OUT/val_lmdb, OUT/val_maps_lmdb, OUT/mean.binaryproto and
OUT/labels.txt.

  crnn data convert voc2012 --sbd downloads/ downloads/ data/voc2012
"""

import argparse
import functools
import sys
from pathlib import Path

import numpy as np

from crnn.data_tools import _convert, _official
from crnn.data_tools._archive import Source, read
from crnn.data_tools._images import Record
from crnn.data_tools._label_map import palette_indices
from crnn.data_tools._manifest import digest_of
from crnn.data_tools._matfile import read_variable
from crnn.data_tools._write import Database

NAME = "voc2012"
VOC, SBD = "VOCdevkit/VOC2012", "benchmark_RELEASE/dataset"
CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train"),
    "tvmonitor",
)
OFFICIAL = {False: {"train": 1464, "val": 1449}, True: {"train": 11_685, "val": 346}}


def arguments(parser: argparse.ArgumentParser) -> None:
    _official.arguments(parser, size=384)
    _official.parts(parser, "train", "val")
    parser.add_argument("--sbd", type=Path, metavar="DIR", help="folder with SBD's benchmark.tgz")
    parser.add_argument("--fit", choices=["pad", "warp"], help="how images get to one size (default pad)")
    parser.set_defaults(fit="pad")


def databases(args: argparse.Namespace) -> list[Database]:
    voc = _official.find(args, ("VOCtrainval_11-May-2012.tar",), VOC)
    sbd = None
    if args.sbd:
        there = argparse.Namespace(source=args.sbd, work=args.work)
        sbd = _official.find(there, ("benchmark.tgz", "benchmark.tar"), SBD)
    lists = {
        ("VOC", part): read(voc.source(f"{VOC}/ImageSets/Segmentation/{part}.txt"))
        for part in ("train", "val")
    }
    if sbd:
        lists |= {("SBD", part): read(sbd.source(f"{SBD}/{part}.txt")) for part in ("train", "val")}
    ids = {key: set(_official.lines(data)) for key, data in lists.items()}
    inputs = {**_official.archive_of(voc), **(_official.archive_of(sbd) if sbd else {})}
    inputs |= {f"{origin} {part}.txt": digest_of(data) for (origin, part), data in lists.items()}
    _official.write_lines(args.out / "labels.txt", CLASSES)
    made = []
    for part, members in split(ids).items():
        if part not in args.parts:
            continue
        records = [_record(voc, sbd, ids, name) for name in sorted(members)]
        mean = args.out / "mean.binaryproto" if part == "train" else None
        common = {"official": OFFICIAL[bool(sbd)][part], "inputs": inputs}
        made += [
            Database(args.out / f"{part}_lmdb", records, mean=mean, **common),
            Database(args.out / f"{part}_maps_lmdb", records, True, map_classes=len(CLASSES), **common),
        ]
    return made


def split(ids: dict[tuple[str, str], set[str]]) -> dict[str, set[str]]:
    """The images of train and val, from the lists of VOC and, if there, SBD (CRF-RNN's reduced val)."""
    train, val = ids["VOC", "train"], ids["VOC", "val"]
    if ("SBD", "train") not in ids:
        return {"train": train, "val": val}
    sbd = ids["SBD", "train"] | ids["SBD", "val"]
    return {"train": (train | val | sbd) - (val - sbd), "val": val - sbd}


def _record(voc, sbd, ids, name: str) -> Record:
    image = f"{VOC}/JPEGImages/{name}.jpg"
    source = voc.source(image) if sbd is None or image in voc else sbd.source(f"{SBD}/img/{name}.jpg")
    if name in ids["VOC", "train"] or name in ids["VOC", "val"]:
        labels = functools.partial(_voc_map, voc.source(f"{VOC}/SegmentationClass/{name}.png"))
    else:
        labels = functools.partial(_sbd_map, sbd.source(f"{SBD}/cls/{name}.mat"))
    return Record(name, source, 0, labels)


def _voc_map(source: Source) -> np.ndarray:
    return palette_indices(read(source))


def _sbd_map(source: Source) -> np.ndarray:
    """uint8 [H, W], GTcls.Segmentation. Raises ValueError where the file has another form."""
    (labels,) = read_variable(read(source), "GTcls")
    labels = labels.get("Segmentation")
    if not isinstance(labels, np.ndarray) or labels.dtype != np.uint8 or labels.ndim != 2:
        raise ValueError(f"{source}: GTcls.Segmentation is no map of 8 bits")
    return np.ascontiguousarray(labels)


def main(argv: list[str]) -> int:
    return _convert.convert(sys.modules[__name__], argv)


if __name__ == "__main__":
    _convert.run(main)
