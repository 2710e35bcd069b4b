"""Caffe's LMDB databases, written: under another name until whole, growing as needed."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable

COMMIT_RECORDS = 1000  # as Caffe's converters
COMMIT_BYTES = 64 << 20  # and what a batch of large records may take in memory
MAX_KEY = 511


class LmdbWriter:
    """with LmdbWriter("train_lmdb") as db: db.put(key, value)

    The database is written in the folder `<path>.partial`, which gets its name when the block ends. An error
    in the block removes it; what a killed process leaves behind, the next writer of the same path clears.

    Raises FileExistsError where `path` exists, OSError where another process writes it or the disk is full.
    """

    FILES = frozenset({"data.mdb", "lock.mdb"})  # what the folder may hold already

    def __init__(self, path, map_size: int = 64 << 20):
        self.path = os.path.normpath(path)
        self.partial = self.path + ".partial"
        self._map_size = map_size
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0

    def __enter__(self):
        import lmdb

        if os.path.lexists(self.path):
            raise FileExistsError(f"{self.path} exists: remove it or write to another folder")
        os.makedirs(self.partial, exist_ok=True)
        self._folder = os.open(self.partial, os.O_RDONLY)
        try:
            self._claim()
            if not self._resumes():
                self._clear()
            # The 0.9 engine, where lmdb ships two: Caffe cannot read the files of 1.0. Synced at the end.
            engine = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}
            with self._errors():
                self._env = lmdb.open(self.partial, map_size=self._map_size, lock=False, sync=False, **engine)
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
        if not set(os.listdir(self.partial)) <= self.FILES:
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
        if not 1 <= len(key) <= MAX_KEY:
            raise ValueError(
                f"key {key[:60]!r}... of {len(key)} bytes, LMDB takes 1 to {MAX_KEY}: shorten the path"
            )
        self._pending.append((key, value))
        self._pending_bytes += len(value)
        if len(self._pending) >= COMMIT_RECORDS or self._pending_bytes >= COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Writes what was put since the last commit."""
        self._write(self._pending)
        self._pending, self._pending_bytes = [], 0

    def _write(self, records: list[tuple[bytes, bytes]]) -> None:
        def put(txn) -> None:
            for key, value in records:
                if not txn.put(key, value, overwrite=False):
                    raise ValueError(f"key {key!r} was put twice")

        self._transact(put)

    def _transact(self, work: Callable) -> None:
        """Calls work(transaction) and commits; the map doubles until that fits."""
        import lmdb

        with self._errors():
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        work(txn)
                    break
                except lmdb.MapFullError:
                    self._map_size *= 2
                    self._env.set_mapsize(self._map_size)

    def __exit__(self, kind, error, trace):
        whole = False
        try:
            if kind is None:
                self.commit()
                with self._errors():
                    self._env.sync(True)
                whole = True
        finally:
            self._env.close()
            if whole:
                self._publish()
            elif error is None or not self._keeps(error):
                shutil.rmtree(self.partial)
            os.close(self._folder)

    def _publish(self) -> None:
        """Gives the whole database its name; both folders' entries reach the disk."""
        os.fsync(self._folder)
        os.rename(self.partial, self.path)
        parent = os.open(os.path.dirname(self.path) or ".", os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)

    @contextlib.contextmanager
    def _errors(self):
        import lmdb

        try:
            yield
        except (lmdb.Error, OSError) as error:
            free = shutil.disk_usage(os.path.dirname(os.path.abspath(self.path))).free
            why = getattr(error, "strerror", None) or error
            raise OSError(f"cannot write {self.partial}: {why} ({free / 1e6:,.0f} MB free)") from error
