"""The files of a data set under the names its archive gives them: in a folder, or in a tar that stays packed.

A file of a tar is read where it lies in it. A compressed tar is expanded first, to a tar. No member of an
archive is ever written under its own name, and an archive with names that lead out of it, links, devices or
members of absurd size is refused whole.
"""

import gzip
import json
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from crnn.data_tools._progress import watched

BLOCK = 512  # of a tar
MAX_MEMBER = 512 << 20  # bytes of a file that is read; CIFAR's train.bin has 154 MB
MAX_HEADER = 64 << 10  # bytes of a long name
MAX_RATIO, FREE_BYTES = 20, 1 << 30  # what an archive may expand to: so many times its size, or this if more
COPY_BYTES = 16 << 20
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", (b"x", b"X"), b"g"


class Member(NamedTuple):
    """A file inside an archive: `size` bytes from `offset`; -1 where the archive has no such file."""

    archive: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}:{self.name}"


Source = str | Member  # of an image: its path, or where it is in an archive


def read(source: Source) -> bytes:
    """The bytes of a file. Raises OSError where there is none or the archive has become shorter."""
    if isinstance(source, str):
        with open(source, "rb") as file:
            return file.read()
    if source.offset < 0:
        raise FileNotFoundError(f"{source.archive} holds no {source.name}")
    with open(source.archive, "rb", buffering=0) as file:
        file.seek(source.offset)
        data = file.read(source.size)
    if len(data) != source.size:
        raise OSError(f"{source.archive} ends within {source.name}: get it again")
    return data


def clean(name: str, archive: str) -> str:
    """`name` without "./" and double slashes. Raises ValueError for one that leads out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or not parts or ".." in name.replace("\\", "/").split("/") or "\0" in name:
        raise ValueError(f"{archive} is refused: the name {name!r} leads out of it")
    return "/".join(parts)


class Folder:
    """The files of an unpacked archive."""

    def __init__(self, root):
        self.path = os.fspath(root)

    def source(self, name: str) -> str:
        return os.path.join(self.path, clean(name, self.path))

    def __contains__(self, name: str) -> bool:
        return os.path.isfile(self.source(name))

    def names(self, under: str = "") -> Iterator[str]:
        """Every file below `under`, sorted."""
        found = []
        for folder, _, files in os.walk(os.path.join(self.path, under)):
            inside = os.path.relpath(folder, self.path)
            found += [os.path.normpath(os.path.join(inside, file)) for file in files]
        return iter(sorted(found))


class Tar:
    """The files of a tar. `nested`: it holds a tar a class, whose files go by class/name.

    Its index, and the tar itself where it was compressed, are kept in `work`, so that a second run has them.
    Raises ValueError for an archive that is refused, OSError for one that is cut or damaged.
    """

    def __init__(self, path, work: Path, nested: bool = False):
        self.path = os.fspath(path)
        packed = self.path
        with open(packed, "rb") as file:
            magic = file.read(6)
        if magic[:2] == b"\x1f\x8b":
            packed = _expand(packed, work)
        elif magic[:2] in (b"BZ", b"PK") or magic == b"\xfd7zXZ\0":
            raise ValueError(
                f"{self.path} is neither a tar nor a .tar.gz: unpack it, or take the official file"
            )
        self._members = _index(packed, work, nested)

    def source(self, name: str) -> Member:
        return self._members.get(name.strip("/")) or Member(self.path, name, -1, 0)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def names(self, under: str = "") -> Iterator[str]:
        start = under and under.rstrip("/") + "/"
        return iter(sorted(name for name in self._members if name.startswith(start)))


class Zip:
    """The files of a small zip, in memory: lists."""

    def __init__(self, path):
        self.path = os.fspath(path)
        try:
            with zipfile.ZipFile(path) as archive:
                files = [info for info in archive.infolist() if not info.is_dir()]
                if sum(info.file_size for info in files) > MAX_MEMBER:
                    raise ValueError(
                        f"{path} is refused: it expands to more than {MAX_MEMBER >> 20} MB of lists"
                    )
                self._files = {clean(info.filename, self.path): archive.read(info) for info in files}
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise OSError(f"{path} is damaged ({error}): get it again") from None

    def ending(self, name: str) -> bytes | None:
        """The file called `name` in whatever folder."""
        return next((data for path, data in self._files.items() if f"/{path}".endswith(f"/{name}")), None)


def _expand(path: str, work: Path) -> str:
    """The tar of a .tar.gz, in `work`. Raises as Tar does, and OSError where the disk is too small."""
    stat = os.stat(path)
    name = os.path.basename(path).removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar") + ".tar"
    expanded = work / f"{stat.st_size}-{stat.st_mtime_ns}" / name
    if expanded.exists():
        return str(expanded)
    expanded.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(work).free
    if stat.st_size > free:
        size = f"{stat.st_size / 1e9:,.1f} GB or more, {free / 1e9:,.1f} GB are free"
        raise OSError(f"{path} is to be expanded in {work} to {size}: expand it elsewhere and name the .tar")
    partial = expanded.with_suffix(".partial")
    try:
        _gunzip(path, partial, max(FREE_BYTES, MAX_RATIO * stat.st_size))
        os.replace(partial, expanded)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise OSError(f"{path} is cut or damaged ({error}): get it again") from None
    finally:
        partial.unlink(missing_ok=True)
    return str(expanded)


def _gunzip(path: str, target: Path, limit: int) -> None:
    what = f"expand {os.path.basename(path)}"
    with gzip.open(path, "rb") as packed, open(target, "wb") as out:
        chunks = iter(lambda: packed.read(COPY_BYTES), b"")
        for chunk in watched(chunks, what, each=64, unit=f"times {COPY_BYTES >> 20} MB"):
            out.write(chunk)
            if out.tell() > limit:
                raise ValueError(f"{path} is refused: it expands to more than {limit:,} bytes")
        out.flush()
        os.fsync(out.fileno())


# ---- the index of a tar ----


def _index(path: str, work: Path, nested: bool) -> dict[str, Member]:
    kept = work / f"{os.path.basename(path)}.index"
    stat = os.stat(path)
    state = {"bytes": stat.st_size, "modified": stat.st_mtime_ns, "nested": nested}
    if kept.exists():
        with open(kept, encoding="utf-8") as lines:
            if json.loads(next(lines)) == state:
                return {name: Member(path, name, *where) for name, *where in map(json.loads, lines)}
    what = f"index {os.path.basename(path)}"
    with open(path, "rb") as stream:
        found = _nested(stream, path) if nested else _members(stream, path, stat.st_size)
        members = {m.name: m for m in watched(found, what, each=100_000, unit="files")}
    work.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8") as lines:
        lines.write(json.dumps(state) + "\n")
        lines.writelines(json.dumps([m.name, m.offset, m.size]) + "\n" for m in members.values())
    os.replace(partial, kept)
    return members


def _nested(stream: BinaryIO, path: str) -> Iterator[Member]:
    for outer in _members(stream, path, os.path.getsize(path), MAX_MEMBER << 4):
        after = stream.tell()
        stream.seek(outer.offset)
        folder = outer.name.removesuffix(".tar")
        for member in _members(stream, f"{path}:{outer.name}", outer.offset + outer.size):
            yield Member(path, f"{folder}/{member.name}", member.offset, member.size)
        stream.seek(after)


def _members(stream: BinaryIO, path: str, end: int, largest: int = MAX_MEMBER) -> Iterator[Member]:
    """The files of the tar that begins where `stream` stands and ends at byte `end`.

    tarfile's own loop takes a damaged header for the end and keeps every member in memory, so only its
    parser of headers is used.
    """
    name = size = None  # given by an extended header to the member after it
    while True:
        at = stream.tell()
        block = stream.read(BLOCK)
        if len(block) < BLOCK or stream.tell() > end:
            raise OSError(f"{path} is cut off at byte {at:,}: get it again")
        if not any(block):
            return
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise OSError(f"{path} is damaged at byte {at:,} ({error}): get it again") from None
        extends = info.type in (_LONG_NAME, _LONG_LINK, _PAX_GLOBAL, *_PAX)
        called, length = name or info.name, info.size if size is None or extends else size
        offset = stream.tell()
        if length < 0 or offset + length > end:
            raise OSError(f"{path} is cut off within {called}: get it again")
        if extends:
            name, size = _extended(stream, info, path, name, size)
        else:
            name = size = None
        if info.isreg() and not info.issparse():
            if length > largest:
                raise ValueError(f"{path} is refused: its member {called} has {length:,} bytes")
            yield Member(path, clean(called, path), offset, length)
        elif not info.isdir() and not extends:
            what = "a link" if info.issym() or info.islnk() else "neither a file nor a folder"
            raise ValueError(f"{path} is refused: its member {called} is {what}; unpack it yourself")
        stream.seek(offset + length + -length % BLOCK)


def _extended(stream: BinaryIO, info: tarfile.TarInfo, path: str, name, size):
    """(name, size) for the next member, from a GNU long name or a pax header."""
    if info.size > MAX_HEADER:
        raise ValueError(f"{path} is refused: a name of {info.size:,} bytes")
    data = stream.read(info.size)
    if info.type not in (_LONG_NAME, *_PAX):
        return name, size
    if info.type == _LONG_NAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape"), size
    while data:
        length = data.partition(b" ")[0]
        if not length.isdigit() or not 0 < int(length) <= len(data):
            raise OSError(f"{path} is damaged in a pax header: get it again")
        keyword, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        if keyword == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif keyword == b"size":
            if not value.isdigit():
                raise OSError(f"{path} is damaged in a pax header: get it again")
            size = int(value)
        data = data[int(length) :]
    return name, size
