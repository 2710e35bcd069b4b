"""Files cut short or with a flipped bit: refused in a sentence, never used, and never a crash."""

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from crnn.data.checksums import read_checksums
from crnn.data.databases import open_database
from crnn.data.leveldb_reader import plyvel
from crnn.data_tools.verify import verify

from . import converters, processes, training
from .converters import DATABASE
from .table import DETECTED, FAULTS, HARMLESS, SILENT, Fault, Result, Trial

REFUSED, SAME, OTHER = b"r", b"s", b"o"  # what became of one damaged file
BATCH = 50  # damaged files that one process reads, unless it dies of one


def cut(data: bytes, trial: Trial) -> tuple[bytes, str]:
    length = trial.rng.randrange(len(data))
    return data[:length], f"cut to {length} bytes"


def flip(data: bytes, trial: Trial) -> tuple[bytes, str]:
    place = trial.rng.randrange(8 * len(data))
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed), f"bit {place} flipped"


def scribble(data: bytes, trial: Trial) -> tuple[bytes, str]:
    """Overwrites a run of bytes within a page of 4 KB."""
    page = trial.rng.randrange(len(data) // 4096) * 4096
    start, length = page + trial.rng.randrange(4096), trial.rng.randint(1, 512)
    return data[:start] + trial.rng.randbytes(length) + data[start + length :], f"{length} bytes from {start}"


def damaged(path: Path, how: Callable, used: Callable[[], bytes], trial: Trial) -> Iterator[Result]:
    """A result for each of `times` damaged versions of a file; used() says in a child what became of one."""
    whole = path.read_bytes()
    while True:
        versions = [how(whole, trial) for _ in range(BATCH)]
        while versions:
            said, code = _in_child(path, [data for data, _ in versions], used)
            for answer, (_, what) in zip(said, versions, strict=False):
                outcome = {REFUSED[0]: DETECTED, SAME[0]: HARMLESS}.get(answer, SILENT)
                yield Result(outcome, note=f"{path.name} {what}: read as other content" * (outcome == SILENT))
            versions = versions[len(said) :]
            if versions:  # it died of the first of these
                yield Result(SILENT, note=f"{path.name} {versions[0][1]}: {code}")
                versions = versions[1:]
        path.write_bytes(whole)


def _in_child(path: Path, versions: list[bytes], used: Callable[[], bytes]) -> tuple[bytes, str]:
    """The answers of a process up to its end, and how it ended."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        error = os.open(path.parent / ".stderr", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(error, 2)
        try:
            for data in versions:
                path.write_bytes(data)
                signal.alarm(60)  # ends what hangs
                os.write(sink, used())
            os._exit(0)
        except BaseException as unexpected:
            os.write(2, repr(unexpected).encode())
            os._exit(1)
    os.close(sink)
    with os.fdopen(source, "rb") as answers:
        said = answers.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said, f"exit code {code} {(path.parent / '.stderr').read_text(errors='replace')[-500:]}"


# ---- snapshots ----


def snapshot(ending: str, how: Callable, trial: Trial) -> Iterator[Result]:
    """Damages one file of a snapshot and resumes from it."""
    import torch

    from crnn.solver.solver import Solver

    folder = training.prepare(trial.folder / "snapshot")
    assert training.train(folder, "HDF5" if ending.endswith(".h5") else "binary", 3).code == 0
    os.chdir(folder)
    (state,) = folder.glob(f"{training.OUT}/run_iter_3.solverstate*")
    solver = Solver("solver.prototxt")

    def everything() -> list:
        tensors = [t.clone() for p in solver.params for t in (p.blob.detach(), *p.history)]
        places = [(layer.loader.seed, layer.loader.position) for layer in solver.net.layers[:1]]
        return [solver.iter, solver.seed, list(solver.losses), places, *tensors]

    solver.restore(state)
    want = everything()

    def used() -> bytes:
        try:
            solver.restore(state)
        except (ValueError, OSError):
            return REFUSED
        got = everything()
        same = all(
            torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
            for a, b in zip(got, want, strict=True)
        )
        return SAME if same else OTHER

    return damaged(folder / training.OUT / f"run_iter_3{ending}", how, used, trial)


for ending in (".caffemodel", ".solverstate", ".resume.json", ".caffemodel.h5", ".solverstate.h5"):
    for how, what in ((cut, "cut at a random offset"), (flip, "one bit flipped")):
        key = f"{how.__name__}_{ending.strip('.').replace('.', '_')}"
        FAULTS[key] = Fault(f"`{ending}` {what}, resumed from", 200, partial(snapshot, ending, how))


# ---- databases ----

VERIFY = "`crnn data verify`"


def database(writer: str, name: str, how: Callable, reader: str, trial: Trial) -> Iterator[Result]:
    """Damages a file of a database and reads all records, with VERIFY if that found nothing."""
    source = converters.fresh(trial)
    assert converters.convert(source, writer).code == 0
    os.chdir(source)
    if name.endswith(".ldb"):
        processes.run(source, _tabled)
    (path,) = sorted((source / DATABASE).glob(name))[-1:]
    content = converters.content(source)
    assert content.endswith(" []\n"), content

    def used() -> bytes:
        try:
            if reader == VERIFY and verify(DATABASE, workers=1):
                return REFUSED
            sums = read_checksums(DATABASE)
            same = converters.digest_of(open_database(DATABASE), sums) == content.split()[0]
        except (ValueError, OSError):
            return REFUSED
        return SAME if same else OTHER

    return damaged(path, how, used, trial)


def _tabled() -> int:
    """LevelDB makes a table of its log when it opens a database."""
    plyvel().DB(DATABASE).close()
    return 0


CUT, FLIPPED = "cut at a random offset", "with one bit flipped"
OF_DATABASES = (  # key, times of a long run, what is damaged; the writer, its file, the damage, the reader
    ("cut_lmdb", 1000, f"LMDB {CUT}", "LMDB", "data.mdb", cut, "read"),
    ("flip_lmdb", 1000, f"LMDB {FLIPPED}", "LMDB", "data.mdb", flip, VERIFY),
    ("scribble_lmdb", 1000, "LMDB page with up to 512 random bytes", "LMDB", "data.mdb", scribble, VERIFY),
    ("flip_manifest", 200, f"manifest of an LMDB {FLIPPED}", "LMDB", "manifest.json", flip, VERIFY),
    ("flip_crc32", 200, f"checksums of an LMDB {FLIPPED}", "LMDB", "crc32", flip, VERIFY),
    ("flip_leveldb", 250, f"LevelDB's log {FLIPPED}", "LevelDB", "*.log", flip, VERIFY),
    ("cut_leveldb", 250, f"LevelDB's log {CUT}", "LevelDB", "*.log", cut, VERIFY),
    ("flip_leveldb_table", 250, f"LevelDB's table {FLIPPED}", "LevelDB", "*.ldb", flip, VERIFY),
)
for key, times, what, *of in OF_DATABASES:
    FAULTS[key] = Fault(f"{what}, {of[-1]}", times, partial(database, *of))
