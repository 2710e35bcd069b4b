"""A crc32 for each record of a database, kept beside it: LMDB has no checksums of its own.

The file `crc32`: the 8 bytes `crnncrc1`, then for each record in the order of the keys one little-endian
uint32, zlib's crc32 of the key followed by the value. Caffe, LMDB and LevelDB do not look at it.
"""

import os
import struct
import zlib

import numpy as np

NAME = "crc32"
MAGIC = b"crnncrc1"


def checksum(key: bytes, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key))


def read_checksums(folder) -> np.ndarray | None:
    """uint32 [records] of the database in `folder`, None where it has none. Raises OSError if damaged."""
    path = os.path.join(folder, NAME)
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        data = file.read()
    if not data.startswith(MAGIC) or (len(data) - len(MAGIC)) % 4:
        raise OSError(f"{path} is damaged or no list of checksums: convert the data again")
    return np.frombuffer(data, "<u4", offset=len(MAGIC))


def pack(sums: list[int]) -> bytes:
    return struct.pack(f"<{len(sums)}I", *sums)
