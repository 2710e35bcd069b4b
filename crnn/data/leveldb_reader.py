"""Caffe's LevelDB databases, read as they lie: nothing is written to them, and many may read at once.

LevelDB opens a database for one process alone, and to write: it locks it, compacts it and begins new logs.
So each reader opens a folder of links to the database's files, of which LevelDB can replace but the links.
"""

import contextlib
import os
import re
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator

_FILES = re.compile(r"CURRENT|MANIFEST-\d+|\d+\.(ldb|sst|log)")


def plyvel():
    """The plyvel package. Raises ValueError naming the extra where it is not installed."""
    try:
        import plyvel
    except ImportError:
        raise ValueError("LevelDB needs the package plyvel: pip install 'crnn[leveldb]'") from None
    return plyvel


def check(path) -> None:
    """Raises OSError naming the cure where the folder `path` holds no LevelDB."""
    current = os.path.join(path, "CURRENT")
    if not os.path.isfile(current):
        raise OSError(f"{path} is no LevelDB database: {_what_is_there(path)}")
    with open(current, "rb") as file:
        manifest = file.read(256).strip().decode("ascii", "replace")
    if not re.fullmatch(r"MANIFEST-\d+", manifest) or not os.path.isfile(os.path.join(path, manifest)):
        raise OSError(f"{path} is damaged: CURRENT names no file MANIFEST-<number>; copy or convert it again")


def _what_is_there(path) -> str:
    if not os.path.exists(path):
        return "there is no such folder (paths in a prototxt count from the working directory)"
    if not os.path.isdir(path):
        return "it is a file; name the folder that holds CURRENT"
    return "the folder holds no file CURRENT"


class _Opened:
    """A database open in this process, through links in a folder of its own."""

    def __init__(self, folder: str):
        self.pid, self.links = os.getpid(), tempfile.mkdtemp(prefix="crnn-leveldb-")
        weakref.finalize(self, _remove, self.links, self.pid)
        for name in filter(_FILES.fullmatch, os.listdir(folder)):
            os.symlink(os.path.join(folder, name), os.path.join(self.links, name))
        self.db = plyvel().DB(self.links, paranoid_checks=True, max_open_files=100)


def _remove(links: str, pid: int) -> None:
    if os.getpid() == pid:  # a forked child has no say in it
        shutil.rmtree(links, ignore_errors=True)


# Databases that a forked child has from its parent: LevelDB's threads and locks are not what they were, so
# they can be neither read nor closed.
_inherited: list[_Opened] = []


class LevelDbReader:
    """The records of a database in the order of their keys, as LmdbReader gives them.

    LevelDB does not count its records: the first call of `len`, `key`, `read` or `items` with a start lists
    all keys, which reads the whole database once. Every block is held against its checksum.

    Opened at the first read in each process, so it may be pickled, forked and shared between threads.
    Raises OSError from the constructor where there is no LevelDB, and from every read where it is damaged;
    ValueError where plyvel is not installed.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        plyvel()
        check(self.path)
        self._folder = os.path.realpath(self.path)
        self._opened: _Opened | None = None
        self._keys: list[bytes] | None = None
        self._opening = threading.Lock()

    def __len__(self) -> int:
        return len(self.keys())

    def __repr__(self) -> str:
        return f"LevelDbReader({self.path!r})"

    def __getstate__(self):
        return {**self.__dict__, "_opened": None, "_opening": None}

    def __setstate__(self, state):
        self.__dict__.update(state, _opening=threading.Lock())

    def keys(self) -> list[bytes]:
        if self._keys is None:
            with self._errors():
                database = self._database()
                with database.db.iterator(include_value=False, verify_checksums=True) as keys:
                    self._keys = list(keys)
        return self._keys

    def key(self, i: int) -> bytes:
        """The key of record i."""
        return self.keys()[i]

    def read(self, i: int) -> bytes:
        """The value of record i."""
        return self.get(self.key(i))

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        with self._errors():
            return self._database().db.get(key, verify_checksums=True)

    def items(self, start: int = 0, copy: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of record `start` and all after it; from 0 without listing the keys. Always copies."""
        if start and start >= len(self):
            return
        with self._errors():
            database = self._database()  # held by this frame, so that it outlives the reader's close()
            first = self.key(start) if start else None
            with database.db.iterator(start=first, verify_checksums=True, fill_cache=False) as items:
                yield from items

    def at(self, numbers: Iterable[int], copy: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of the records of these numbers."""
        return ((self.key(i), self.read(i)) for i in numbers)

    def hold(self) -> object:
        """As LmdbReader's; nothing here needs it."""
        return self

    def close(self) -> None:
        """Lets go of the database; a later read opens it again."""
        self._opened = None

    def _database(self) -> _Opened:
        if self._opened is not None and self._opened.pid != os.getpid():
            _inherited.append(self._opened)
            self._opened, self._opening = None, threading.Lock()
        with self._opening:
            if self._opened is None:
                self._opened = _Opened(self._folder)
            return self._opened

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except plyvel().Error as error:
            why = re.sub(r"\S*/crnn-leveldb-[^/]*/", "", str(error))
            raise OSError(f"{self.path} is damaged ({why}): copy or convert it again") from error
