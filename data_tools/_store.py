"""A database that a killed converter can go on with: a DatabaseWriter with checksums and a journal.

While it is written, `<path>.partial` holds beside its records
    crc32      a checksum a record (crnn/data/checksums.py); stays with the database
    journal    a line of JSON that names the run, then one after each commit: how many records and inputs are
               done, and the remarks on inputs since the line before
A line is written only when its records are on the disk, so whatever lies beyond the last line was not
acknowledged and is dropped.
"""

import errno
import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, NamedTuple

from crnn.data import checksums
from crnn.data.checksums import checksum, pack, read_checksums
from crnn.data.database_writer import DatabaseWriter
from crnn.data.databases import engine

JOURNAL = "journal"
MANIFEST = "manifest.json"


class Remark(NamedTuple):
    """What there is to say of an input: why it was skipped, or an oddity that did no harm."""

    number: int
    name: str
    skipped: bool
    text: str


class Store(DatabaseWriter):
    """with Store("train_lmdb", run) as store: the records of a run, which `run` names.

    A partial database of the same run is gone on with: `kept` gives its records, and `inputs` says how many
    inputs they came from. Any error but ValueError, which no second try would cure, leaves it.

    Raises ValueError where the partial database is of another run; `restart` discards it.
    """

    BESIDE = frozenset({checksums.NAME, JOURNAL, MANIFEST})

    def __init__(self, path, run: str, restart: bool = False, backend: str = "lmdb"):
        super().__init__(path, engine(backend))
        self.run, self.restart = run, restart
        self.inputs = self.records = 0
        self.remarks: list[Remark] = []
        self._sums: list[int] = []  # of records not yet committed
        self._said = 0  # remarks that the journal has
        self._left: list[int] = []  # checksums of the records that are there
        self._files: list[BinaryIO] = []  # checksums and journal
        self._thread = ThreadPoolExecutor(1, "crnn-database")
        self._writing: Future | None = None

    def __enter__(self) -> "Store":
        super().__enter__()
        try:
            with self._errors():
                for name in (checksums.NAME, JOURNAL):
                    self._files.append(open(os.path.join(self.partial, name), "ab", buffering=0))
            self._crc, self._journal = self._files
            if self.records:
                self._drop_unacknowledged()
            else:
                with self._errors():
                    _append(self._crc, checksums.MAGIC)
                    self._log({"run": self.run})
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind, error, trace):
        try:
            self._thread.shutdown()
            super().__exit__(kind, error, trace)
        finally:
            for file in self._files:
                file.close()

    def _keeps(self, error: BaseException) -> bool:
        return not isinstance(error, ValueError)

    # ---- what a killed run left ----

    def _resumes(self) -> bool:
        path = os.path.join(self.partial, JOURNAL)
        if self.restart or not os.path.exists(path):
            return False
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline was cut
        try:
            head, *rest = map(json.loads, lines or [b"{}"])
        except ValueError:
            raise OSError(f"{path} is damaged: --restart discards what is there") from None
        if not rest or not rest[-1]["records"]:
            return False
        if head["run"] != self.run:
            raise ValueError(
                f"{self.partial} was begun with other input, options or versions: "
                "--restart discards it, or write to another folder"
            )
        self.inputs, self.records = rest[-1]["inputs"], rest[-1]["records"]
        self.remarks = [Remark(*remark) for line in rest for remark in line["remarks"]]
        self._said = len(self.remarks)
        self._check_left()
        os.truncate(path, sum(len(line) + 1 for line in lines))
        return True

    def _check_left(self) -> None:
        """Whether all that the journal acknowledges is there; what the checksums have beyond it is cut."""
        path, wanted = os.path.join(self.partial, checksums.NAME), len(checksums.MAGIC) + 4 * self.records
        self.engine.check(self.partial)
        if not os.path.exists(path) or os.path.getsize(path) < wanted:
            raise self._lacking()
        os.truncate(path, wanted)
        self._left = read_checksums(self.partial).tolist()

    def _lacking(self) -> OSError:
        return OSError(f"{self.partial} lacks some of its {self.records:,} records: --restart discards it")

    def _drop_unacknowledged(self) -> None:
        with self._errors():
            there = self.engine.keep(self.records)
        if there < self.records:
            raise self._lacking()

    def kept(self) -> Iterator[bytes]:
        """The values that are there, in order. Raises OSError for one that is not what was written."""
        try:
            for (key, value), want in zip(self.engine.items(), self._left, strict=True):
                if checksum(key, value) != want:
                    raise OSError(f"{self.partial}: record {key!r} is damaged: --restart discards it")
                yield value
        except self.engine.error as error:
            raise OSError(f"{self.partial} is damaged ({error}): --restart discards it") from error

    # ---- writing ----

    def _log(self, line: dict) -> None:
        _append(self._journal, json.dumps(line).encode() + b"\n")

    def add(self, number: int, key: bytes, value: bytes, crc: int) -> None:
        """The record of input `number`. Keys must rise."""
        self.inputs = number + 1
        self._sums.append(crc)
        self.put(key, value)

    def remark(self, remark: Remark) -> None:
        self.remarks.append(remark)
        if remark.skipped:
            self.inputs = remark.number + 1

    def commit(self) -> None:
        """Hands what was put since the last commit to the writing thread, once that is done with the last."""
        self.wait()
        if not self._sums and self._said == len(self.remarks):
            return
        self.records += len(self._sums)
        line = {"inputs": self.inputs, "records": self.records, "remarks": self.remarks[self._said :]}
        self._writing = self._thread.submit(self._acknowledge, self._pending, self._sums, line)
        self._pending, self._pending_bytes, self._sums = [], 0, []
        self._said = len(self.remarks)

    def wait(self) -> None:
        """Returns when all that was committed is on the disk. Raises what its writing raised."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _acknowledge(self, records: list[tuple[bytes, bytes]], sums: list[int], line: dict) -> None:
        self._write(records)
        with self._errors():
            self.engine.sync()
            _append(self._crc, pack(sums))
            self._log(line)

    def finish(self, manifest: dict) -> None:
        """Lays the manifest beside the records, all of them committed."""
        with self._errors(), open(os.path.join(self.partial, MANIFEST), "wb", buffering=0) as file:
            _append(file, json.dumps(manifest, indent=1).encode() + b"\n")

    def _publish(self) -> None:
        super()._publish()
        os.remove(os.path.join(self.path, JOURNAL))


def _append(file: BinaryIO, data: bytes) -> None:
    """Writes to an unbuffered file what is on the disk when it returns."""
    if file.write(data) != len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(file.fileno())
