"""Caffe's LevelDB databases, written. Caffe: src/caffe/util/db_leveldb.cpp."""

import re
from collections.abc import Iterator
from itertools import islice

from crnn.data.database_writer import DatabaseWriter
from crnn.data.leveldb_reader import check, plyvel

_FILES = re.compile(r"CURRENT|LOCK|LOG|LOG\.old|MANIFEST-\d+|\d+\.(ldb|sst|log|dbtmp)")


class LevelDb:
    """The Engine of LevelDB. Raises ValueError where plyvel is not installed."""

    name, max_key = "LevelDB", 1 << 16

    def __init__(self):
        self.error = plyvel().Error
        self._db = None

    def owns(self, name: str) -> bool:
        return _FILES.fullmatch(name) is not None

    def check(self, folder: str) -> None:
        check(folder)

    def open(self, folder: str) -> None:
        # Caffe's block size; tables of 2 MB, LevelDB's default, would be a file for each ten raw images.
        sizes = {"block_size": 1 << 16, "write_buffer_size": 64 << 20, "max_file_size": 64 << 20}
        self._db = plyvel().DB(folder, create_if_missing=True, paranoid_checks=True, **sizes)

    def put(self, records: list[tuple[bytes, bytes]]) -> None:
        keys = set()
        with self._db.write_batch(transaction=True, sync=True) as batch:
            for key, value in records:
                if key in keys or self._db.get(key) is not None:
                    raise ValueError(f"key {key!r} was put twice")
                keys.add(key)
                batch.put(key, value)

    def keep(self, count: int) -> int:
        kept = 0
        with self._db.iterator(include_value=False) as keys, self._db.write_batch(sync=True) as batch:
            for _ in islice(keys, count):
                kept += 1
            for key in keys:
                batch.delete(key)
        return kept

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        with self._db.iterator(verify_checksums=True, fill_cache=False) as items:
            yield from items

    def sync(self) -> None:
        """Nothing is left to do: each put is on the disk when it returns."""

    def close(self) -> None:
        if self._db is not None:
            self._db.close()


class LevelDbWriter(DatabaseWriter):
    """with LevelDbWriter("train_leveldb") as db: db.put(key, value)      See DatabaseWriter."""

    def __init__(self, path):
        super().__init__(path, LevelDb())
