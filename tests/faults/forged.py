"""The bytes of files made to harm: code in a pickle, sizes that lie, names that lead out of the folder."""

import io
import pickle
import struct
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np

from crnn.data.lmdb_writer import LmdbWriter
from crnn.proto import pb
from crnn.testing import golden

LOOT = "owned"  # the file that a payload makes


class Payload:
    def __reduce__(self):
        return open, (LOOT, "w")


def npy(value: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, value, allow_pickle=True)
    return file.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    """A .tar.gz of one member."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.size = kind, link, 9 if kind == tarfile.REGTYPE else 0
        archive.addfile(info, io.BytesIO(b"x" * 9))
    return file.getvalue()


PICKLE = pickle.dumps({"fc.weight": Payload()})
TORCH = zipped({"a/data.pkl": PICKLE, "a/version": b"3\n"})
OBJECTS = npy(np.array([Payload()], object))
HUGE = (  # a .npy of 4 TB
    b"\x93NUMPY\x01\x00"
    + struct.pack("<H", 118)
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,), }".ljust(117)
    + b"\n"
)


# ---- images ----


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    """A photo whose header has another size."""
    data = (golden("tools/images") / "coffee/0.jpg").read_bytes()
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def black(size: int, times: int) -> bytes:
    """What zlib makes of size * times zeros, one run of them deflated and repeated (RFC 1950)."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    run = deflate.compress(bytes(size)) + deflate.flush(zlib.Z_FULL_FLUSH)
    end = deflate.flush()
    return b"\x78\xda" + run * times + end + struct.pack(">HH", size * times % 65521, 1)


# ---- nets, weights, databases ----


def inputs(shape: str) -> str:
    return f'layer {{ name: "d" type: "Input" top: "d" input_param {{ shape {{ {shape} }} }} }}\n'


def inner_product(outputs: str) -> str:
    ends = f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }}'
    return f'layer {{ name: "f" type: "InnerProduct" bottom: "d" top: "f" {ends} }}\n'


def binaryproto(dims: list[int], values: int = 0) -> bytes:
    return pb.BlobProto(shape=pb.BlobShape(dim=dims), data=[0.0] * values).SerializeToString()


def caffemodel(dims: list[int], values: int = 0) -> bytes:
    """Weights of a layer "fc" with three outputs: a blob of that shape and a whole bias."""
    blobs = [pb.BlobProto.FromString(binaryproto(*blob)) for blob in ((dims, values), ([3], 3))]
    layer = pb.LayerParameter(name="fc", type="InnerProduct", blobs=blobs)
    return pb.NetParameter(name="x", layer=[layer]).SerializeToString()


def hdf5(shape: tuple[int, ...]) -> bytes:
    """Weights of that shape, of which no chunk is stored."""
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as h5:
        h5.create_group("data").create_group("fc").create_dataset("0", shape, "f4", chunks=True)
    return file.getvalue()


def lmdb(record: bytes) -> bytes:
    """The data.mdb of one record."""
    with tempfile.TemporaryDirectory(prefix="crnn-forged-") as folder:
        with LmdbWriter(Path(folder, "db")) as db:
            db.put(b"0", record)
        return Path(folder, "db/data.mdb").read_bytes()
