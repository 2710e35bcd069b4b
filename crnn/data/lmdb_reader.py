"""Caffe's LMDB databases, read: a size check before the map, one environment a process, keys in order."""

import contextlib
import os
import struct
import threading
import weakref
from collections.abc import Iterable, Iterator

from crnn.data import mounts

# The two meta pages (mdb.c of LMDB 0.9, 64-bit little-endian): a page header, then magic, format version,
# page size (where dbs[0] keeps its padding), entries of the main database, last page in use, transaction.
_META = struct.Struct("<II16xI76xQ8xQQ")
_HEADER, _HEADER_OF_1_0 = 16, 24
_MAGIC, _FORMAT = 0xBEEFC0DE, 1


def check(path) -> int:
    """The number of records of the database in the folder `path`, in O(1) and before anything is mapped.

    LMDB maps as much as its newest meta page says and believes it: where the file is shorter, the first touch
    of a missing page ends the process with SIGBUS. So the two are compared here.

    Raises OSError naming the file and the cure: missing, empty, truncated, another format, no LMDB at all.
    """
    file = os.path.join(path, "data.mdb")
    if not os.path.isfile(file):
        raise OSError(f"{path} is no LMDB database: {_what_is_there(path)}")
    size = os.path.getsize(file)
    with open(file, "rb") as pages:
        first = pages.read(_HEADER_OF_1_0 + _META.size)
        if not size:
            raise OSError(f"{file} is empty: convert the data again")
        page_size, *_ = _meta(first, file)
        pages.seek(page_size)
        second = pages.read(_HEADER + _META.size)
    if size < 2 * page_size:
        raise OSError(f"{file} is truncated to {size:,} bytes: copy or convert it again")
    _, entries, last_page, _ = max(_meta(first, file), _meta(second, file), key=lambda meta: meta[-1])
    wanted = (last_page + 1) * page_size
    if size < wanted:
        raise OSError(f"{file} is truncated: {size:,} of {wanted:,} bytes; copy or convert it again")
    return entries


def _meta(page: bytes, file: str) -> tuple[int, ...]:
    """(page size, entries, last page, transaction) of a meta page."""
    if page[_HEADER_OF_1_0:].startswith(struct.pack("<I", _MAGIC)):
        raise OSError(f"{file} was written by LMDB 1.0, which Caffe cannot read: copy it with an LMDB 0.9")
    if len(page) < _HEADER + _META.size:
        raise OSError(f"{file} is no LMDB or truncated, {len(page)} bytes: copy or convert it again")
    magic, version, page_size, *rest = _META.unpack_from(page, _HEADER)
    if (magic, version) != (_MAGIC, _FORMAT) or not 256 <= page_size <= 65536:
        raise OSError(f"{file} is damaged or not of LMDB 0.9 (64-bit, little-endian): convert it again")
    return page_size, *rest


def _what_is_there(path) -> str:
    if not os.path.exists(path):
        return "there is no such folder (paths in a prototxt count from the working directory)"
    if not os.path.isdir(path):
        return "it is a file; name the folder that holds data.mdb"
    if os.path.exists(os.path.join(path, "CURRENT")):
        return "it is a LevelDB; convert the data again with --backend lmdb"
    return "the folder holds no data.mdb"


class _Database:
    """A file that this process has open, and its keys once somebody asked. Its users hold it alive."""

    def __init__(self, env):
        self.env = env
        self.pid = os.getpid()
        self._lock = threading.Lock()
        self._keys: list[bytes] | None = None

    def keys(self) -> list[bytes]:
        with self._lock:
            if self._keys is None:
                with _calls, self.env.begin() as txn:
                    self._keys = list(txn.cursor().iternext(values=False))
            return self._keys


# LMDB allows one environment a file and process, so the readers of a file share it. They are closed under
# the guard alone, never by the garbage collector: a second open must not meet a close on its way.
_databases: "weakref.WeakValueDictionary[tuple[int, int], _Database]" = weakref.WeakValueDictionary()
_environments: dict = {}
_guard = threading.Lock()
# Held around every call into lmdb that reads, so that a fork never catches another thread inside one: the
# child would inherit lmdb's own locks, held for ever. Reentrant: the garbage collector may end an iterator
# within.
_calls = threading.RLock()


def _database(folder: str) -> _Database:
    import lmdb

    check(folder)
    mounts.warn(folder, "read")
    stat = os.stat(os.path.join(folder, "data.mdb"))
    file = stat.st_dev, stat.st_ino
    with _guard:
        database = _databases.get(file)
        if database is None:
            _close_unused()
            # No lock: nobody writes to a finished database, and a read-only mount cannot hold a lock file.
            env = lmdb.open(folder, readonly=True, create=False, lock=False, readahead=True)
            _environments[file] = env
            database = _databases[file] = _Database(env)
            weakref.finalize(database, _user_left)
        return database


def _close_unused() -> None:
    for file in [file for file in _environments if file not in _databases]:
        _environments.pop(file).close()


def _user_left() -> None:
    if _guard.acquire(blocking=False):  # else it is done at the next open: this may run inside one
        _close_unused()
        _guard.release()


def _before_fork() -> None:
    _guard.acquire()
    _calls.acquire()


def _after_fork() -> None:
    _calls.release()
    _guard.release()


def _forget_parent() -> None:
    """In a forked child: the parent's environments must not be used, and block others until closed."""
    global _guard, _calls
    _guard, _calls = threading.Lock(), threading.RLock()
    _databases.clear()
    _close_unused()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forget_parent)


class LmdbReader:
    """The records of a database in the order of their keys.

    Opened at the first read in each process, so it may be pickled, forked and shared between threads.
    Raises OSError from the constructor as `check` does, and from every read where the database is damaged.
    """

    def __init__(self, path):
        self.path = os.fspath(path)
        self._entries = check(self.path)
        self._folder = os.path.realpath(self.path)
        self._opened: _Database | None = None

    def __len__(self) -> int:
        return self._entries

    def __repr__(self) -> str:
        return f"LmdbReader({self.path!r})"

    def __getstate__(self):
        return {**self.__dict__, "_opened": None}

    def key(self, i: int) -> bytes:
        """The key of record i. The first call lists all keys (a second for a million records)."""
        with self._errors():
            return self._database().keys()[i]

    def read(self, i: int) -> bytes:
        """The value of record i."""
        return self.get(self.key(i))

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        with self._errors():
            database = self._database()
            with _calls, database.env.begin() as txn:
                return txn.get(key)

    def items(self, start: int = 0, copy: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of record `start` and all after it; from 0 without listing the keys.

        Without `copy` the values are memoryviews of the map, valid while the caller has `hold()`.
        """
        if start >= len(self):
            return
        key = self.key(start) if start else None
        with self._cursor(copy) as cursor:
            with _calls:
                more = cursor.set_key(key) if start else cursor.first()
            while more:
                with _calls:
                    (key, value), more = cursor.item(), cursor.next()
                yield bytes(key), value

    def at(self, numbers: Iterable[int], copy: bool = True) -> Iterator[tuple[bytes, bytes]]:
        """(key, value) of the records of these numbers, as `items` gives them."""
        with self._cursor(copy) as cursor:
            for number in numbers:
                key = self.key(number)
                with _calls:
                    value = cursor.get(key)
                yield key, value

    def hold(self) -> object:
        """Keeps the map for as long as the caller has it, whatever happens to the reader."""
        with self._errors():
            return self._database()

    @contextlib.contextmanager
    def _cursor(self, copy: bool):
        with self._errors():
            database = self._database()  # held by this frame, so that the map outlives the reader's close()
            with _calls:
                txn = database.env.begin(buffers=not copy)
                cursor = txn.cursor()
            try:
                yield cursor
            finally:
                with _calls:
                    cursor.close()
                    txn.abort()

    def close(self) -> None:
        """Closes the database unless another reader of this process has it open; a later read reopens it."""
        self._opened = None

    def _database(self) -> _Database:
        if self._opened is None or self._opened.pid != os.getpid():
            self._opened = _database(self._folder)
        return self._opened

    @contextlib.contextmanager
    def _errors(self):
        import lmdb

        try:
            yield
        except lmdb.Error as error:
            raise OSError(f"{self.path} is damaged ({error}): copy or convert it again") from error
