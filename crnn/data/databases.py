"""The two kinds of database that Caffe has, told apart and opened."""

import os

from crnn.data.database_writer import Engine
from crnn.data.leveldb_reader import LevelDbReader
from crnn.data.leveldb_writer import LevelDb
from crnn.data.lmdb_reader import LmdbReader
from crnn.data.lmdb_writer import Lmdb

BACKENDS = ("lmdb", "leveldb")
NAMES = {"lmdb": "an LMDB", "leveldb": "a LevelDB"}


def kind(path) -> str | None:
    """ "lmdb" or "leveldb", whichever the folder `path` holds; None where it holds neither."""
    if os.path.exists(os.path.join(path, "data.mdb")):
        return "lmdb"
    return "leveldb" if os.path.exists(os.path.join(path, "CURRENT")) else None


def open_database(path, backend: str | None = None) -> LmdbReader | LevelDbReader:
    """A reader of the database at `path`; of its own kind, or of kind `backend` where it is none.

    Raises OSError as the readers do, ValueError where it is not of the kind `backend` asks for.
    """
    found = kind(path)
    if backend and found and found != backend:
        raise ValueError(f"{path} is {NAMES[found]}, not {NAMES[backend]}")
    return LevelDbReader(path) if (found or backend) == "leveldb" else LmdbReader(path)


def engine(backend: str) -> Engine:
    """What a DatabaseWriter writes a database of this kind with."""
    return LevelDb() if backend == "leveldb" else Lmdb()


def size(path) -> int:
    """Bytes that the database in the folder `path` takes on the disk, with what lies beside its records."""
    return sum(entry.stat().st_size for entry in os.scandir(path) if entry.is_file())
