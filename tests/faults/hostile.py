"""Files made to harm: commands refuse them in a sentence, run nothing of theirs, and stay small and quick."""

import io
import pickle
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from crnn.data.datum import encode_file
from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto import pb
from crnn.testing import golden

from . import training
from .processes import Ended, crnn, run
from .table import Result, Trial, fault, judged

ROOM = 600  # MB that a refusal may take beyond a process that does nothing
LOOT = "owned"  # the file that a payload makes
DEPLOY = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
Case = tuple[str, Callable[[Path], list[str]]]  # what it is, and what makes the file and gives the command


def refused(
    trial: Trial, cases: dict[str, Callable[[Path], list[str]]], setting=lambda folder: None
) -> Iterator[Result]:
    """Runs each command beside its hostile file, which `setting` may surround with others."""
    idle = run(trial.folder, lambda: 0).peak
    for what, make in islice(cases.items(), trial.times):
        folder = trial.folder / "hostile"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        setting(folder)
        words = make(folder)
        ended = run(folder, crnn(*words))
        yield judged(not (problem := _problem(ended, trial.folder, idle)), f"{what}: {problem}")


def _problem(ended: Ended, folder: Path, idle: int) -> str:
    if list(folder.rglob(LOOT)) or Path("/tmp", LOOT).exists():
        return "its code was run, or it wrote where it should not"
    if not ended.refused:
        return f"exit code {ended.code}: {ended.said[-600:]}"
    return f"{ended.peak - idle} MB" if ended.peak > idle + ROOM else ""


# ---- pickles ----


class Payload:
    def __reduce__(self):
        return open, (LOOT, "w")


def _weights(name: str, data: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "deploy.prototxt").write_text(DEPLOY)
        (folder / name).write_bytes(data)
        return ["time", "--model", "deploy.prototxt", "--iterations", "1", "--weights", name]

    return make


def _train_from(name: str, data: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        training.prepare(folder)
        training.training(folder, "binary", 1)
        (folder / name).write_bytes(data)
        return ["train", "-solver", "solver.prototxt", "-weights", name]

    return make


def _zip(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def _array(value) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def _answers(data: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        shutil.copytree(golden("tools/raw_color_lmdb"), folder / "db")
        (folder / "tree.txt").write_text("thing\n" + "".join(f"  n{i} x{i}\n" for i in range(9)))
        (folder / "answers.npz").write_bytes(data)
        return ["data", "paths", "db", "tree.txt", "out", "--answers", "answers.npz"]

    return make


PICKLE = pickle.dumps({"fc.weight": Payload()})
OBJECTS = _array(np.array([Payload()], object))
HUGE = (
    b"\x93NUMPY\x01\x00"
    + struct.pack("<H", 118)
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117)
    + b"\n"
)
PICKLES = {
    ".pt, a bare pickle": _train_from("x.pt", PICKLE),
    ".pth, a bare pickle": _train_from("x.pth", PICKLE),
    ".pth, a pickle in torch's zip": _train_from("x.pth", _zip({"a/data.pkl": PICKLE, "a/version": b"3\n"})),
    ".pth, no zip at all": _train_from("x.pth", b"PK\x03\x04 and no more"),
    ".npz of objects": _train_from("x.npz", _zip({"fc.weight.npy": OBJECTS})),
    ".npz that is a pickle": _train_from("x.npz", PICKLE),
    ".npz cut short": _train_from("x.npz", _zip({"fc.weight.npy": _array(np.ones(99))})[:-40]),
    ".npz of 4 TB": _train_from("x.npz", _zip({"fc.weight.npy": HUGE})),
    ".caffemodel that is a pickle": _train_from("x.caffemodel", PICKLE),
    ".safetensors that is a pickle": _train_from("x.safetensors", PICKLE),
    ".safetensors with a header of 2^60 bytes": _train_from(
        "x.safetensors", struct.pack("<Q", 1 << 60) + b"{}"
    ),
    "answers, .npz of objects": _answers(_zip({"answers.npy": OBJECTS, "keys.npy": OBJECTS})),
    "answers that are a pickle": _answers(PICKLE),
    "answers of 4 TB": _answers(_zip({"answers.npy": HUGE, "keys.npy": HUGE})),
}


@fault("pickles and arrays with code or false sizes", len(PICKLES))
def hostile_pickles(trial: Trial) -> Iterator[Result]:
    return refused(trial, PICKLES)


# ---- images ----


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _jpeg(width: int, height: int) -> bytes:
    data = (golden("tools/images") / "coffee/0.jpg").read_bytes()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


BOMBS = {
    "PNG of 65535 x 65535": png(65535, 65535, zlib.compress(bytes(1 << 20))),
    "PNG of 20000 x 20000, whole": png(20000, 20000, zlib.compress(bytes(20000 * 60001), 9)),
    "PNG of 2^31-1 x 1": png(0x7FFFFFFF, 1),
    "JPEG of 65535 x 65535": _jpeg(65535, 65535),
    "GIF of 65535 x 65535": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(99),
    "BMP of 2^31-1 x 2^31-1": b"BM" + bytes(16) + struct.pack("<ii", 0x7FFFFFFF, 0x7FFFFFFF) + bytes(99),
    "WEBP of 16384 x 16384": b"RIFF\x99\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(99),
    "a pickle named .jpg": PICKLE,
    "nothing": b"",
}


def _converted(image: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "x.jpg").write_bytes(image)
        (folder / "list").write_text("x.jpg 0\n")
        return ["data", "convert", "imageset", ".", "list", "db"]

    return make


def _classified(image: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "deploy.prototxt").write_text(DEPLOY)
        message = pb.NetParameter(layer=[pb.LayerParameter(name="none")])
        (folder / "x.caffemodel").write_bytes(message.SerializeToString())
        (folder / "x.jpg").write_bytes(image)
        return ["classify", "deploy.prototxt", "x.caffemodel", "x.jpg"]

    return make


def _trained_on(image: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        training.prepare(folder)
        training.training(folder, "binary", 1)
        shutil.rmtree(folder / "raw_color_lmdb")
        with LmdbWriter(folder / "raw_color_lmdb") as db:
            db.put(b"0", encode_file(image, 0))
        return ["train", "-solver", "solver.prototxt"]

    return make


IMAGES = {
    f"{what}, {how}": command(image)
    for how, command in (("converted", _converted), ("classified", _classified), ("trained on", _trained_on))
    for what, image in BOMBS.items()
}


@fault("image bombs: converted, classified, trained on", len(IMAGES))
def image_bombs(trial: Trial) -> Iterator[Result]:
    return refused(trial, IMAGES)


# ---- archives ----


def _tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, 9 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"x" * 9))
        return ["data", "convert", "cifar10", ".", "out"]

    return make


ARCHIVES = {
    "../ in a name": _tar(f"../{LOOT}"),
    "../ within a name": _tar(f"a/../../{LOOT}"),
    "an absolute name": _tar(f"/tmp/{LOOT}"),
    "backslashes": _tar(f"a\\..\\..\\{LOOT}"),
    "a symbolic link out": _tar(LOOT, tarfile.SYMTYPE, "/etc/passwd"),
    "a hard link out": _tar(LOOT, tarfile.LNKTYPE, "../../etc/passwd"),
    "a device": _tar(LOOT, tarfile.CHRTYPE),
    "a pipe": _tar(LOOT, tarfile.FIFOTYPE),
}


@fault("archives with members that lead out, links, devices", len(ARCHIVES))
def hostile_archives(trial: Trial) -> Iterator[Result]:
    return refused(trial, ARCHIVES)


# ---- nets, weights, means ----


def _model(text: str | bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "net.prototxt").write_bytes(text if isinstance(text, bytes) else text.encode())
        return ["time", "--model", "net.prototxt", "--iterations", "1"]

    return make


def _input(shape: str) -> str:
    return f'layer {{ name: "d" type: "Input" top: "d" input_param {{ shape {{ {shape} }} }} }}\n'


def _inner(outputs: str) -> str:
    ends = f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }}'
    return f'layer {{ name: "f" type: "InnerProduct" bottom: "d" top: "f" {ends} }}\n'


PROTOTXTS = {
    "100,000 open braces": _model("layer {" * 100_000),
    "100,000 open and closed braces": _model("layer {" * 100_000 + "}" * 100_000),
    "10 MB of one word": _model("a" * 10_000_000),
    "a string that never ends": _model('name: "' + "x" * 1_000_000),
    "zero bytes": _model(bytes(10_000)),
    "other bytes than UTF-8": _model(b'name: "\xff\xfe\xfa" layerx {}'),
    "a number of a million digits": _model("layer { loss_weight: " + "9" * 1_000_000 + " }"),
    "a blob of 2^62 values": _model(_input("dim: 2147483648 dim: 2147483648")),
    "a blob whose size wraps to 0": _model(_input("dim: 4294967296 dim: 4294967296") + _inner("1")),
    "a negative dimension": _model(_input("dim: -1 dim: 3") + _inner("1")),
    "weights of 10 TB": _model(_input("dim: 1 dim: 1000000") + _inner("2147483647")),
    "a layer that is its own bottom": _model('layer { name: "a" type: "ReLU" bottom: "a" top: "a" }'),
    "a list that is /etc/passwd": _model(
        'layer { name: "d" type: "ImageData" top: "d" top: "l" image_data_param { source: "/etc/passwd" } }'
    ),
    "a HTML page": _model("<!DOCTYPE html><html></html>"),
}


@fault("prototxts: deep, long, of impossible sizes", len(PROTOTXTS))
def hostile_prototxts(trial: Trial) -> Iterator[Result]:
    return refused(trial, PROTOTXTS)


def _blob(dims: list[int], values: int = 0) -> bytes:
    blob = pb.BlobProto(shape=pb.BlobShape(dim=dims), data=[0.0] * values)
    layer = pb.LayerParameter(name="fc", type="InnerProduct", blobs=[blob])
    return pb.NetParameter(name="x", layer=[layer]).SerializeToString()


def _hdf5(shape: tuple[int, ...], chunks=True) -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.create_group("data").create_group("fc").create_dataset("0", shape, "f4", chunks=chunks)
    return file.getvalue()


def _mean(data: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        training.prepare(folder)
        training.training(folder, "binary", 1)
        (folder / "mean.binaryproto").write_bytes(data)
        return ["train", "-solver", "solver.prototxt"]

    return make


def _lmdb(data: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        training.prepare(folder)
        training.training(folder, "binary", 1)
        (folder / "raw_color_lmdb/data.mdb").write_bytes(data)
        return ["train", "-solver", "solver.prototxt"]

    return make


def _record(value: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        training.prepare(folder)
        training.training(folder, "binary", 1)
        shutil.rmtree(folder / "raw_color_lmdb")
        with LmdbWriter(folder / "raw_color_lmdb") as db:
            db.put(b"0", value)
        return ["train", "-solver", "solver.prototxt"]

    return make


LMDB = (golden("tools/raw_color_lmdb") / "data.mdb").read_bytes()
BINARIES = {
    ".caffemodel: a shape of 2^80": _train_from("x.caffemodel", _blob([1 << 40, 1 << 40])),
    ".caffemodel: a shape of 2^64, no values": _train_from("x.caffemodel", _blob([1 << 32, 1 << 32])),
    ".caffemodel: more values than its shape": _train_from("x.caffemodel", _blob([2, 2], 5000)),
    ".caffemodel: a negative shape": _train_from("x.caffemodel", _blob([-2, -3], 6)),
    ".caffemodel: a length of 2^63": _train_from("x.caffemodel", b"\xa2\x06" + b"\xff" * 8 + b"\x7f"),
    ".caffemodel: a PNG": _train_from("x.caffemodel", png(9, 9)),
    ".caffemodel: zeros": _train_from("x.caffemodel", bytes(4096)),
    ".caffemodel.h5: 4 TB, none of it stored": _train_from("x.caffemodel.h5", _hdf5((1 << 20, 1 << 20))),
    ".caffemodel.h5: 16 GB, none of it stored": _train_from("x.caffemodel.h5", _hdf5((1 << 16, 1 << 16))),
    ".caffemodel.h5: no HDF5": _train_from("x.caffemodel.h5", bytes(4096)),
    ".binaryproto: a shape of 2^80": _mean(
        pb.BlobProto(shape=pb.BlobShape(dim=[3, 1 << 40, 1 << 40])).SerializeToString()
    ),
    ".binaryproto: not the image's size": _mean(
        pb.BlobProto(shape=pb.BlobShape(dim=[3, 2, 2]), data=[0.0] * 12).SerializeToString()
    ),
    "LMDB: empty": _lmdb(b""),
    "LMDB: wrong magic": _lmdb(bytes(16) + b"\x12\x34\x56\x78" + LMDB[20:]),
    "LMDB: of 1.0": _lmdb(bytes(24) + LMDB[16:]),
    "LMDB: big-endian": _lmdb(LMDB[:16] + LMDB[16:20][::-1] + LMDB[20:]),
    "LMDB: a pickle": _lmdb(PICKLE * 400),
    "Datum: 2^30 x 2^30 x 2^30": _record(
        pb.Datum(channels=1 << 30, height=1 << 30, width=1 << 30).SerializeToString()
    ),
    "Datum: negative": _record(pb.Datum(channels=-1, height=-1, width=1, data=b"x").SerializeToString()),
    "Datum: no pixels": _record(pb.Datum(channels=3, height=32, width=32).SerializeToString()),
    "Datum: a pickle": _record(PICKLE),
    "Datum: nothing": _record(b""),
}


@fault("weights, means, databases: impossible shapes, wrong magic", len(BINARIES))
def hostile_binaries(trial: Trial) -> Iterator[Result]:
    return refused(trial, BINARIES)


# ---- what goes on in the process ----


def _raising(error: BaseException, at: int) -> Callable[[], int]:
    """The work of a training whose thread that reads ahead meets an error at its at-th batch."""

    def work() -> int:
        from crnn.data.loader import _Worker

        whole = _Worker._run

        def until(batches):
            yield from islice(batches, at)
            raise error

        _Worker._run = lambda worker, batches: whole(worker, until(batches))
        return crnn("train", "-solver", "solver.prototxt")()

    return work


def _without_threads() -> int:
    import threading

    def start(thread):
        raise RuntimeError("can't start new thread")

    threading.Thread.start = start
    return crnn("train", "-solver", "solver.prototxt")()


@fault("the thread that reads ahead dies, at a random batch, or cannot start", 50)
def reader_death(trial: Trial) -> Iterator[Result]:
    kinds = [ValueError("a bad record"), OSError(5, "Input/output error"), MemoryError(), SystemExit(3), None]
    for number in range(trial.times):
        folder = training.prepare(trial.folder / "reader")
        training.training(folder, "binary", training.LENGTH)
        error = kinds[number % len(kinds)]
        ended = run(folder, _raising(error, trial.rng.randint(0, 20)) if error else _without_threads)
        good = ended.code != 0 and (ended.refused or isinstance(error, SystemExit))
        yield judged(good, f"{error!r}: exit code {ended.code}: {ended.said[-600:]}")


def _closed(number: int) -> Callable[[], int]:
    def work() -> int:
        import os

        os.close(number)
        return crnn("train", "-solver", "solver.prototxt")()

    return work


def _environment(**values: str) -> Callable[[], int]:
    def work() -> int:
        import os

        os.environ.update(values)
        return crnn("train", "-solver", "solver.prototxt")()

    return work


SURROUNDINGS = {
    "blanks, quotes and other alphabets in the path": (
        "ж 'é' \"q\" 漢",
        lambda: crnn("train", "-solver", "solver.prototxt"),
    ),
    "no standard output": ("out1", lambda: _closed(1)),
    "another time zone and language": ("tz", lambda: _environment(TZ="Asia/Kathmandu", LC_ALL="tr_TR.UTF-8")),
    "no home": ("home", lambda: _environment(HOME="/nonexistent", TMPDIR="/nonexistent")),
}


@fault("odd surroundings: path, locale, no home, no standard output; training", len(SURROUNDINGS))
def surroundings(trial: Trial) -> Iterator[Result]:
    for what, (name, work) in islice(SURROUNDINGS.items(), trial.times):
        folder = training.prepare(trial.folder / name)
        training.training(folder, "binary", 3)
        ended = run(folder, work())
        problem = (
            training.unbroken(trial.folder, "binary").wrong(folder, 3)
            if ended.code == 0
            else ended.said[-400:]
        )
        yield judged(not problem, f"{what}: {problem}")
