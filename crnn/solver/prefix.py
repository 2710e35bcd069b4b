"""A snapshot_prefix: its folder, its lock, and what killed runs left under it."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path


def probe(prefix: str, iteration: int) -> None:
    """Makes the prefix's folder and proves that files can be written there.

    Raises OSError if they cannot, ValueError if there is no prefix.
    """
    if not prefix:
        raise ValueError(
            "snapshots need a snapshot_prefix; without snapshots say snapshot_after_train: false"
        )
    path = Path(f"{prefix}_iter_{iteration}.{os.getpid()}.tempfile")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.unlink()
    except OSError as error:
        raise OSError(
            f"cannot write snapshots to {prefix!r}: {error.strerror}; set snapshot_prefix to a writable place"
        ) from error


#: Of the prefixes that this process holds: the locks' descriptors.
_held: dict[str, int] = {}


@contextlib.contextmanager
def alone(prefix: str) -> Iterator[None]:
    """While entered, no other process of this machine, or of those that share the folder's locks, enters with
    this prefix; who is in may enter again. Clears what killed runs began. OSError if another is in, or
    probe()'s.
    """
    probe(prefix, 0)
    path = Path(f"{prefix}_").absolute()
    folder, name = path.parent, path.name.removesuffix("_")
    lock = folder / f".{name}.lock"
    if str(lock) in _held:
        yield
        return
    _held[str(lock)] = _locked(lock, prefix)
    try:
        _clear(folder, name)
        yield
    finally:
        descriptor = _held.pop(str(lock), None)
        if descriptor is not None:  # else this is a forked child
            try:
                if _is_at(descriptor, lock):  # else the folder was removed, and another run's may stand there
                    lock.unlink()  # before the lock goes: who waits for this file sees that it is gone
            finally:
                os.close(descriptor)


def _locked(lock: Path, prefix: str) -> int:
    """A descriptor of the file, which holds its lock; where there are no locks, of the file alone."""
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OSError(
                f"cannot train with snapshot_prefix {prefix!r}: {lock}: {error.strerror}; if no other run "
                "uses it, remove that file"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OSError(
                f"another process trains with snapshot_prefix {prefix!r}: wait for its end, or give "
                "this one a snapshot_prefix of its own"
            ) from None
        except OSError:  # a file system without them
            return descriptor
        if _is_at(descriptor, lock):
            return descriptor
        os.close(descriptor)  # of a run that has just ended


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _let_go() -> None:
    """In a forked child: the lock is its parent's, and would outlive it by the child's descriptor."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


def _clear(folder: Path, name: str) -> None:
    """Removes the unfinished files of runs whose prefix is folder/name and whose process is gone."""
    name = re.escape(name)
    parts = rf"\.{name}(_iter_\d+|_train|_test\d*)?\.\w+(\.\w+)?\.(?P<pid>\d+)\.part"
    unfinished = re.compile(rf"{parts}|{name}_iter_\d+(\.(?P<prober>\d+))?\.tempfile")
    for file in os.listdir(folder):
        if match := unfinished.fullmatch(file):
            process = match["pid"] or match["prober"]
            if not (process and os.path.exists(f"/proc/{process}")):
                (folder / file).unlink(missing_ok=True)
