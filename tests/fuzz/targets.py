"""What reads files of others: a function a format, which may raise ValueError or OSError and nothing else."""

import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from crnn.data.checksums import MAGIC, NAME, pack, read_checksums
from crnn.data.datum import decode, encode, encode_file
from crnn.data.image_header import read_header
from crnn.data.image_list import ImageList
from crnn.data.label_tree import parse_tree
from crnn.data.lmdb_reader import check
from crnn.data.lmdb_writer import Lmdb
from crnn.data.windows import WindowFile
from crnn.data_tools._matfile import read_variable
from crnn.data_tools.verify import verify
from crnn.net.weights import write_resume
from crnn.proto import pb
from crnn.proto.blobs import read_binary, read_mean, to_array
from crnn.proto.npz import read_npz
from crnn.proto.stored import read_layers
from crnn.proto.text import parse
from crnn.proto.upgrade import upgrade_net
from crnn.solver.resume import read as read_resume
from crnn.solver.snapshot import run_of
from crnn.testing import golden

REFUSALS = (ValueError, OSError)
HERE = Path(__file__).parent
_folder = tempfile.TemporaryDirectory(prefix="crnn-fuzz-")


def on_disk(data: bytes, name: str = "file") -> str:
    """The path of a file that holds `data` until the next call with that name."""
    path = Path(_folder.name, name)
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)  # a map of the one before keeps its pages
    path.write_bytes(data)
    return str(path)


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def net_text(data: bytes) -> None:
    upgrade_net(parse(text(data), pb.NetParameter).message)


def solver_text(data: bytes) -> None:
    parse(text(data), pb.SolverParameter)


def weights(data: bytes) -> None:
    for _, blobs in read_layers(on_disk(data)):
        for blob in blobs:
            blob.read()


def solver_state(data: bytes) -> None:
    for blob in read_binary(on_disk(data), pb.SolverState).history:
        to_array(blob)


def mean(data: bytes) -> None:
    read_mean(on_disk(data))


def datum(data: bytes) -> None:
    decode(data)
    decode(data, True)


def image_header(data: bytes) -> None:
    read_header(data)


def image_list(data: bytes) -> None:
    ImageList(on_disk(data))


def window_file(data: bytes) -> None:
    WindowFile(on_disk(data), 0.5, 0.5)


def label_tree(data: bytes) -> None:
    parse_tree(text(data).splitlines())


def mat_file(data: bytes) -> None:
    read_variable(data, "synsets")


def lmdb_size(data: bytes) -> None:
    """What is looked at before each map of a database."""
    check(Path(on_disk(data, "lmdb/data.mdb")).parent)


def lmdb_pages(data: bytes) -> None:
    """What `crnn data verify` finds sound is mapped and read."""
    verify(Path(on_disk(data, "lmdb/data.mdb")).parent, workers=1)


def checksums(data: bytes) -> None:
    read_checksums(Path(on_disk(data, f"sums/{NAME}")).parent)


def resume_json(data: bytes) -> None:
    on_disk(data, "run.resume.json")
    state = on_disk(b"", "run.solverstate")
    run_of(state.removesuffix(".solverstate"))
    read_resume(state)


def arrays(data: bytes) -> None:
    read_npz(on_disk(data, "x.npz"))


TREE = b"thing\n  animal\n    dog\n      n1 poodle\n    cat\n  car\n"
WINDOWS = b"# 0\na.jpg\n3\n8\n9\n2\n1 0.7 0 0 5 6\n0 0.1 1 2 3 4\n"


def database() -> bytes:
    """An LMDB of two pages of keys, a page above them, and a record with pages of its own."""
    with tempfile.TemporaryDirectory(prefix="crnn-fuzz-") as folder:
        engine = Lmdb(1 << 20)
        engine.open(folder)
        pixels = np.zeros((1, 2, 2), np.uint8)
        engine.put([(b"%0400d" % i, encode(pixels, i)) for i in range(12)])
        engine.put([(b"large", encode(np.zeros((1, 60, 80), np.uint8), 12))])
        engine.close()
        return Path(folder, "data.mdb").read_bytes()


def resume() -> bytes:
    """What stands beside an empty solverstate."""
    path, empty = Path(_folder.name, "run.solverstate"), hashlib.sha256().hexdigest()
    place = {"seed": 1, "skip": 0, "position": 12}
    rest = {"data": [{"data": place}], "states": [], "states_of_other_ranks": [], "loss_scale": {}}
    write_resume(str(path), {"run": "0123", "seed": 1, "losses": [0.5], **rest, "sha256": {path.name: empty}})
    return path.with_suffix(".resume.json").read_bytes()


def seeds() -> dict[Callable[[bytes], None], list[bytes]]:
    """Each target with whole files of its format."""
    jpeg = (golden("tools/images") / "coffee/0.jpg").read_bytes()
    raw = encode(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), 3)
    tools = {name: golden(f"tools/{name}").read_bytes() for name in (
        "logged_net.prototxt", "logged_solver.prototxt", "logged_iter_30.caffemodel",
        "logged_iter_30.solverstate", "mean.binaryproto",
    )}  # fmt: skip
    file = io.BytesIO()
    np.savez_compressed(file, a=np.eye(3), b=np.array("text"))
    return {
        net_text: [tools["logged_net.prototxt"]],
        solver_text: [tools["logged_solver.prototxt"]],
        weights: [tools["logged_iter_30.caffemodel"]],
        solver_state: [tools["logged_iter_30.solverstate"]],
        mean: [tools["mean.binaryproto"]],
        datum: [raw, encode_file(jpeg, 1)],
        image_header: [jpeg],
        image_list: [b"a b.jpg 3\nc.png 0\r\n"],
        window_file: [WINDOWS],
        label_tree: [TREE],
        lmdb_size: [database()],
        lmdb_pages: [database()],
        checksums: [MAGIC + pack([1, 2, 3])],
        resume_json: [resume()],
        arrays: [file.getvalue()],
        mat_file: [(HERE.parent / "data_tools/files/meta2010.mat").read_bytes()],
    }
