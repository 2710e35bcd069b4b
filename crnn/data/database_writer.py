"""Caffe's databases, written: under another name until whole. An Engine is what they differ in."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from typing import Protocol

COMMIT_RECORDS = 1000  # as Caffe's converters
COMMIT_BYTES = 64 << 20  # and what a batch of large records may take in memory


class Engine(Protocol):
    """A database of one kind in the making, alone in its folder or with files of other names."""

    name: str  # as its users call it
    max_key: int  # bytes
    error: type[Exception]  # what its library raises

    def owns(self, name: str) -> bool:
        """Whether a file of this name may be a part of such a database."""

    def check(self, folder: str) -> None:
        """Raises OSError where what lies in the folder cannot be opened."""

    def open(self, folder: str) -> None: ...

    def put(self, records: list[tuple[bytes, bytes]]) -> None:
        """Adds all the records or none. Raises ValueError for a key that is there."""

    def keep(self, count: int) -> int:
        """Drops all but the first `count` records; how many are there then."""

    def items(self) -> Iterator[tuple[bytes, bytes]]: ...

    def sync(self) -> None:
        """Returns when all that was put is on the disk."""

    def close(self) -> None: ...


class DatabaseWriter:
    """with DatabaseWriter("train_lmdb", Lmdb()) as db: db.put(key, value)

    The database is written in the folder `<path>.partial`, which gets its name when the block ends. An error
    in the block removes it; what a killed process leaves behind, the next writer of the same path clears.

    Raises FileExistsError where `path` exists, OSError where another process writes it or the disk is full.
    """

    BESIDE = frozenset()  # names of files that may lie in the folder beside the database's

    def __init__(self, path, engine: Engine):
        self.path = os.path.normpath(path)
        self.partial = self.path + ".partial"
        self.engine = engine
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0

    def __enter__(self):
        if os.path.lexists(self.path):
            raise FileExistsError(f"{self.path} exists: remove it or write to another folder")
        with self._errors():
            os.makedirs(self.partial, exist_ok=True)
        self._folder = os.open(self.partial, os.O_RDONLY)
        try:
            self._claim()
            if not self._resumes():
                self._clear()
            with self._errors():
                self.engine.open(self.partial)
        except BaseException:
            os.close(self._folder)
            raise
        return self

    def _claim(self) -> None:
        """Makes the folder ours, as long as this process lives."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{self.path} is being written by another process") from None
        if not all(self.engine.owns(name) or name in self.BESIDE for name in os.listdir(self.partial)):
            raise OSError(f"{self.partial} holds more than an unfinished database: remove it")

    def _resumes(self) -> bool:
        """Whether to go on with what a killed writer left."""
        return False

    def _keeps(self, error: BaseException) -> bool:
        """Whether what is written survives this error."""
        return False

    def _clear(self) -> None:
        for name in os.listdir(self.partial):
            os.remove(os.path.join(self.partial, name))

    def put(self, key: bytes, value: bytes) -> None:
        """Adds a record. Raises ValueError for a key that is too long or, at the commit, was put before."""
        check_key(key, self.engine)
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if len(self._pending) >= COMMIT_RECORDS or self._pending_bytes >= COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Writes what was put since the last commit."""
        self._write(self._pending)
        self._pending, self._pending_bytes = [], 0

    def _write(self, records: list[tuple[bytes, bytes]]) -> None:
        with self._errors():
            self.engine.put(records)

    def __exit__(self, kind, error, trace):
        whole = False
        try:
            if kind is None:
                self.commit()
                with self._errors():
                    self.engine.sync()
                whole = True
        finally:
            self.engine.close()
            if whole:
                self._publish()
            elif error is None or not self._keeps(error):
                shutil.rmtree(self.partial)
            os.close(self._folder)

    def _publish(self) -> None:
        """Gives the whole database its name; both folders' entries reach the disk."""
        with self._errors():
            os.fsync(self._folder)
            os.rename(self.partial, self.path)
            parent = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)

    @contextlib.contextmanager
    def _errors(self):
        try:
            yield
        except (self.engine.error, OSError) as error:
            free = shutil.disk_usage(os.path.dirname(os.path.abspath(self.path))).free
            why = getattr(error, "strerror", None) or error
            raise OSError(f"cannot write {self.partial}: {why} ({free / 1e6:,.0f} MB free)") from error


def check_key(key: bytes, engine: Engine) -> None:
    """Raises ValueError for a key of a length that the database does not take."""
    if not 1 <= len(key) <= engine.max_key:
        raise ValueError(
            f"key {key[:60]!r}... of {len(key)} bytes, {engine.name} takes 1 to {engine.max_key}: "
            "shorten the path"
        )
