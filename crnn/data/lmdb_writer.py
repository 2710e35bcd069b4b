"""Caffe's LMDB databases, written: growing as needed, in the format of LMDB 0.9."""

from collections.abc import Callable, Iterator

from crnn.data import mounts
from crnn.data.database_writer import DatabaseWriter
from crnn.data.lmdb_reader import check


class Lmdb:
    """The Engine of LMDB. map_size: bytes that the map begins with."""

    name, max_key = "LMDB", 511

    def __init__(self, map_size: int = 64 << 20):
        self._map_size = map_size

    @property
    def error(self) -> type[Exception]:
        import lmdb

        return lmdb.Error

    def owns(self, name: str) -> bool:
        return name in ("data.mdb", "lock.mdb")

    def check(self, folder: str) -> None:
        check(folder)

    def open(self, folder: str) -> None:
        import lmdb

        mounts.warn(folder, "written")
        # The 0.9 engine, where lmdb ships two: Caffe cannot read the files of 1.0. Synced at the end.
        engine = {"lib_version": 0} if int(lmdb.__version__.split(".")[0]) >= 3 else {}
        self._env = lmdb.open(folder, map_size=self._map_size, lock=False, sync=False, **engine)

    def put(self, records: list[tuple[bytes, bytes]]) -> None:
        def put(txn) -> None:
            for key, value in records:
                if not txn.put(key, value, overwrite=False):
                    raise ValueError(f"key {key!r} was put twice")

        self._transact(put)

    def keep(self, count: int) -> int:
        def drop(txn) -> None:
            with txn.cursor() as cursor:
                for _ in range(txn.stat()["entries"] - count):
                    cursor.last()
                    cursor.delete()

        self._transact(drop)
        return self._env.stat()["entries"]

    def _transact(self, work: Callable) -> None:
        """Calls work(transaction) and commits; the map doubles until that fits."""
        import lmdb

        while True:
            try:
                with self._env.begin(write=True) as txn:
                    work(txn)
                break
            except lmdb.MapFullError:
                self._map_size *= 2
                self._env.set_mapsize(self._map_size)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        with self._env.begin() as txn, txn.cursor() as cursor:
            yield from cursor.iternext()

    def sync(self) -> None:
        self._env.sync(True)

    def close(self) -> None:
        self._env.close()


class LmdbWriter(DatabaseWriter):
    """with LmdbWriter("train_lmdb") as db: db.put(key, value)      See DatabaseWriter."""

    def __init__(self, path, map_size: int = 64 << 20):
        super().__init__(path, Lmdb(map_size))
