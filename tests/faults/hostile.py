"""Files made to harm: commands refuse them in a sentence, run nothing of theirs, and stay small and quick."""

import json
import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crnn.data.datum import encode_file
from crnn.proto import pb
from crnn.testing import golden

from . import training
from .forged import (
    HUGE,
    LOOT,
    OBJECTS,
    PICKLE,
    TORCH,
    binaryproto,
    black,
    caffemodel,
    hdf5,
    inner_product,
    inputs,
    jpeg,
    lmdb,
    npy,
    png,
    tar,
    zipped,
)
from .processes import Ended, crnn, run
from .table import Result, Trial, fault, judged

ROOM = 600  # MB that a refusal may take beyond a process that does nothing
LONGEST = 10_000  # characters that a command may say


# ---- commands that meet a file ----


def nothing(folder: Path) -> None:
    pass


def trainable(folder: Path) -> None:
    training.prepare(folder)
    training.training(folder, "binary", 1)


def classifier(folder: Path) -> None:
    (folder / "deploy.prototxt").write_text(
        'layer { name: "data" type: "Input" top: "data"\n'
        "  input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }\n"
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"\n'
        "  inner_product_param { num_output: 3 } }\n"
        'layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }\n'
    )
    (folder / "fc.caffemodel").write_bytes(caffemodel([3, 3 * 32 * 32], 3 * 3 * 32 * 32))


def listed(folder: Path) -> None:
    (folder / "list").write_text("x.jpg 0\n")


def resumable(folder: Path) -> None:
    training.prepare(folder)
    training.train(folder, "binary", 1)
    training.training(folder, "binary", 2)


def treed(folder: Path) -> None:
    shutil.copytree(golden("tools/raw_color_lmdb"), folder / "db")
    (folder / "tree.txt").write_text("thing\n" + "".join(f"  n{i} x{i}\n" for i in range(9)))


class Command(NamedTuple):
    """The words of a command, {} the hostile file's name, and what makes the other files that it needs."""

    words: str
    prepare: Callable[[Path], None] = nothing


TRAIN = Command("train -solver solver.prototxt", trainable)
FINETUNE = Command("train -solver solver.prototxt -weights {}", trainable)
TIME = Command("time --model {} --iterations 1")
CLASSIFY = Command("classify --no-pictures deploy.prototxt fc.caffemodel {}", classifier)
CONVERT = Command("data convert imageset . list db", listed)
CIFAR = Command("data convert cifar10 . out")
PATHS = Command("data paths db tree.txt out --answers {}", treed)
INFO = Command("data info db", treed)
RESUME = Command("train -solver solver.prototxt -snapshot out/run_iter_1.solverstate", resumable)
MEAN, DATA = "mean.binaryproto", "raw_color_lmdb/data.mdb"  # of the training

Case = tuple[Command, str, bytes]  # what meets the hostile file, its name, its content


def refused(trial: Trial, cases: dict[str, Case]) -> Iterator[Result]:
    """Each command meets its file in a fresh folder, and must refuse it by name."""
    idle = run(trial.folder, lambda: 0).peak
    for what, (command, name, content) in islice(cases.items(), trial.times):
        folder = trial.folder / "hostile"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command.prepare(folder)
        (folder / name).write_bytes(content)
        ended = run(folder, crnn(*command.words.format(name).split()))
        found = problem(ended, name, trial.folder, idle)
        yield judged(not found, f"{what}: {found}")


def problem(ended: Ended, name: str, folder: Path, idle: int) -> str:
    """What is wrong with how a command ended that met the file `name`, or nothing; idle: MB of a process."""
    if list(folder.rglob(LOOT)) or Path("/tmp", LOOT).exists():
        return "its code was run, or it wrote where it should not"
    if not ended.refused:
        return f"exit code {ended.code}: {ended.said[-600:]}"
    if name.partition("/")[0].removesuffix(".gz") not in ended.sentence:  # a database goes by its folder
        return f"refused for another reason: {ended.sentence}"
    if len(ended.said) > LONGEST:
        return f"{len(ended.said):,} characters were said"
    return f"{ended.peak - idle} MB" if ended.peak > idle + ROOM else ""


# ---- pickles ----

PICKLES = {
    ".pt, a bare pickle": (FINETUNE, "x.pt", PICKLE),
    ".pth, a bare pickle": (FINETUNE, "x.pth", PICKLE),
    ".pth, a pickle in torch's zip": (FINETUNE, "x.pth", TORCH),
    ".pth, no zip at all": (FINETUNE, "x.pth", b"PK\x03\x04 and no more"),
    ".npz of objects": (FINETUNE, "x.npz", zipped({"fc.weight.npy": OBJECTS})),
    ".npz that is a pickle": (FINETUNE, "x.npz", PICKLE),
    ".npz cut short": (FINETUNE, "x.npz", zipped({"fc.weight.npy": npy(np.ones(99))})[:-40]),
    ".npz of 4 TB": (FINETUNE, "x.npz", zipped({"fc.weight.npy": HUGE})),
    ".caffemodel that is a pickle": (FINETUNE, "x.caffemodel", PICKLE),
    ".safetensors that is a pickle": (FINETUNE, "x.safetensors", PICKLE),
    ".safetensors, header of 2^60 bytes": (FINETUNE, "x.safetensors", struct.pack("<Q", 1 << 60) + b"{}"),
    "answers, .npz of objects": (PATHS, "x.npz", zipped({"answers.npy": OBJECTS, "keys.npy": OBJECTS})),
    "answers that are a pickle": (PATHS, "x.npz", PICKLE),
    "answers of 4 TB": (PATHS, "x.npz", zipped({"answers.npy": HUGE, "keys.npy": HUGE})),
}


@fault("pickles and arrays with code or false sizes", len(PICKLES))
def hostile_pickles(trial: Trial) -> Iterator[Result]:
    return refused(trial, PICKLES)


# ---- images ----

BOMBS = {
    "PNG of 65535 x 65535": png(65535, 65535, zlib.compress(bytes(1 << 20))),
    "PNG of 20000 x 20000, whole": png(20000, 20000, black(100 * 60001, 200)),
    "PNG of 2^31-1 x 1": png(0x7FFFFFFF, 1),
    "JPEG of 65535 x 65535": jpeg(65535, 65535),
    "GIF of 65535 x 65535": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(99),
    "BMP of 2^31-1 x 2^31-1": b"BM" + bytes(16) + struct.pack("<ii", 0x7FFFFFFF, 0x7FFFFFFF) + bytes(99),
    "WEBP of 16384 x 16384": b"RIFF\x99\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(99),
    "a pickle named .jpg": PICKLE,
    "nothing": b"",
}
IMAGES = {
    **{f"{what}, converted": (CONVERT, "x.jpg", image) for what, image in BOMBS.items()},
    **{f"{what}, classified": (CLASSIFY, "x.jpg", image) for what, image in BOMBS.items()},
    **{f"{what}, trained on": (TRAIN, DATA, lmdb(encode_file(image, 0))) for what, image in BOMBS.items()},
}


@fault("image bombs: converted, classified, trained on", len(IMAGES))
def image_bombs(trial: Trial) -> Iterator[Result]:
    return refused(trial, IMAGES)


# ---- archives ----

MEMBERS = {
    "../ in a name": tar(f"../{LOOT}"),
    "../ within a name": tar(f"a/../../{LOOT}"),
    "an absolute name": tar(f"/tmp/{LOOT}"),
    "backslashes": tar(f"a\\..\\..\\{LOOT}"),
    "a symbolic link out": tar(LOOT, tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link out": tar(LOOT, tarfile.LNKTYPE, "../../etc/passwd"),
    "a device": tar(LOOT, tarfile.CHRTYPE),
    "a pipe": tar(LOOT, tarfile.FIFOTYPE),
}
ARCHIVES = {what: (CIFAR, "cifar-10-binary.tar.gz", content) for what, content in MEMBERS.items()}


@fault("archives with members that lead out, links, devices", len(ARCHIVES))
def hostile_archives(trial: Trial) -> Iterator[Result]:
    return refused(trial, ARCHIVES)


# ---- nets ----

TEXTS = {
    "100,000 open braces": "layer {" * 100_000,
    "100,000 open and closed braces": "layer {" * 100_000 + "}" * 100_000,
    "10 MB of one word": "a" * 10_000_000,
    "a string that never ends": 'name: "' + "x" * 1_000_000,
    "zero bytes": "\0" * 10_000,
    "other bytes than UTF-8": 'name: "\udcff\udcfe\udcfa" layerx {}',
    "a number of a million digits": "layer { loss_weight: " + "9" * 1_000_000 + " }",
    "a blob of 2^62 values": inputs("dim: 2147483648 dim: 2147483648"),
    "a blob whose size wraps to 0": inputs("dim: 4294967296 dim: 4294967296") + inner_product("1"),
    "a negative dimension": inputs("dim: -1 dim: 3") + inner_product("1"),
    "weights of 10 TB": inputs("dim: 1 dim: 1000000") + inner_product("2147483647"),
    "a layer that is its own bottom": 'layer { name: "a" type: "ReLU" bottom: "a" top: "a" }',
    "a list that is /etc/passwd": (
        'layer { name: "d" type: "ImageData" top: "d" top: "l" image_data_param { source: "/etc/passwd" } }'
    ),
    "a HTML page": "<!DOCTYPE html><html></html>",
}
PROTOTXTS = {
    what: (TIME, "net.prototxt", text.encode("utf-8", "surrogateescape")) for what, text in TEXTS.items()
}


@fault("prototxts: deep, long, of impossible sizes", len(PROTOTXTS))
def hostile_prototxts(trial: Trial) -> Iterator[Result]:
    return refused(trial, PROTOTXTS)


# ---- weights, means, databases ----

LMDB = (golden("tools/raw_color_lmdb") / "data.mdb").read_bytes()
DATUMS = {
    "2^30 x 2^30 x 2^30": pb.Datum(channels=1 << 30, height=1 << 30, width=1 << 30).SerializeToString(),
    "negative": pb.Datum(channels=-1, height=-1, width=1, data=b"x").SerializeToString(),
    "no pixels": pb.Datum(channels=3, height=32, width=32).SerializeToString(),
    "a pickle": PICKLE,
    "nothing": b"",
}
BINARIES = {
    ".caffemodel: a shape of 2^80": (FINETUNE, "x.caffemodel", caffemodel([1 << 40, 1 << 40])),
    ".caffemodel: a shape of 2^64, no values": (FINETUNE, "x.caffemodel", caffemodel([1 << 32, 1 << 32])),
    ".caffemodel: more values than its shape": (FINETUNE, "x.caffemodel", caffemodel([3, 1568], 5000)),
    ".caffemodel: a negative shape": (FINETUNE, "x.caffemodel", caffemodel([-2, -3], 6)),
    ".caffemodel: a length of 2^63": (FINETUNE, "x.caffemodel", b"\xa2\x06" + b"\xff" * 8 + b"\x7f"),
    ".caffemodel: a PNG": (FINETUNE, "x.caffemodel", png(9, 9)),
    ".caffemodel: zeros": (FINETUNE, "x.caffemodel", bytes(4096)),
    ".caffemodel.h5: 4 TB, none of it stored": (FINETUNE, "x.caffemodel.h5", hdf5((1 << 20, 1 << 20))),
    ".caffemodel.h5: 16 GB, none of it stored": (FINETUNE, "x.caffemodel.h5", hdf5((1 << 16, 1 << 16))),
    ".caffemodel.h5: no HDF5": (FINETUNE, "x.caffemodel.h5", bytes(4096)),
    ".binaryproto: a shape of 2^80": (TRAIN, MEAN, binaryproto([3, 1 << 40, 1 << 40])),
    ".binaryproto: not the image's size": (TRAIN, MEAN, binaryproto([3, 2, 2], 12)),
    "LMDB: empty": (TRAIN, DATA, b""),
    "LMDB: wrong magic": (TRAIN, DATA, bytes(16) + b"\x12\x34\x56\x78" + LMDB[20:]),
    "LMDB: of 1.0": (TRAIN, DATA, bytes(24) + LMDB[16:]),
    "LMDB: big-endian": (TRAIN, DATA, LMDB[:16] + LMDB[16:20][::-1] + LMDB[20:]),
    "LMDB: a pickle": (TRAIN, DATA, PICKLE * 400),
    **{f"Datum: {what}": (TRAIN, DATA, lmdb(record)) for what, record in DATUMS.items()},
}


@fault("weights, means, databases: impossible shapes, wrong magic", len(BINARIES))
def hostile_binaries(trial: Trial) -> Iterator[Result]:
    return refused(trial, BINARIES)


# ---- what stands beside data and snapshots ----

MANIFEST = {
    "dataset": "x",
    "made_by": "x",
    "decoder": {"opencv": "5", "jpeg": "x"},
    "options": {},
    "inputs": {},
}
MANIFEST |= {"listed": 12, "records": 12, "official": None, "labels": {"0": 12}, "shape": None, "mean": None}
MANIFEST |= {"crc32": "", "skipped": [], "oddities": []}
RESUMED = {"sha256": {}, "seed": 1, "losses": [], "data": [], "states": []}  # of no snapshot in particular
SIDES = {
    "manifest: no JSON": (INFO, "db/manifest.json", PICKLE),
    "manifest: 100,000 open brackets": (INFO, "db/manifest.json", b"[" * 100_000),
    **{
        f"manifest: {text}": (INFO, "db/manifest.json", json.dumps(MANIFEST | field).encode())
        for text, field in {
            "options a list": {"options": [7]},
            "inputs of a number": {"inputs": {"x": 7}},
            "a listed that is text": {"listed": "12"},
            "a decoder without names": {"decoder": {}},
            "skipped without reasons": {"skipped": [[1, "x"]]},
        }.items()
    },
    **{
        f".resume.json: {text}": (RESUME, "out/run_iter_1.resume.json", json.dumps(RESUMED | field).encode())
        for text, field in {
            "states a number": {"states": 7},
            "states of words": {"states": ["x"]},
            "a seed of 2^80": {"seed": 1 << 80},
            "a position before the first": {"data": [{"data": {"position": -1}}]},
            "a scale of words": {"loss_scale": {"scale": "x"}},
            "a list for a scale": {"loss_scale": [65536.0]},
        }.items()
    },
}


@fault("manifests and .resume.json: parts of other forms", len(SIDES))
def hostile_sides(trial: Trial) -> Iterator[Result]:
    return refused(trial, SIDES)
