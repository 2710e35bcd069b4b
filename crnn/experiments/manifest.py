"""What a figure depends on besides the texts: versions, revision, machine, data."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

import crnn
from crnn.data import checksums
from crnn.data.databases import open_database
from crnn.proto import pb
from crnn.proto.blobs import write_bytes
from crnn.proto.form import has_form

PACKAGES = (
    "torch",
    "numpy",
    "protobuf",
    "lmdb",
    "opencv-python-headless",
    "opencv-python",
    "safetensors",
    "scikit-learn",
    "matplotlib",
    "h5py",
)
FILE = "manifest.json"


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> str:
    found = [f"{name} {number}" for name in PACKAGES if (number := version(name))]
    return ", ".join([f"crnn {crnn.__version__}", f"Python {platform.python_version()}", *found])


def processor() -> str:
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return name[1] if name else platform.processor() or platform.machine()


@cache
def revision() -> str | None:
    """The commit of a checkout that crnn runs from, with `+changes` if files differ from it; else None."""
    root = Path(crnn.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout
            for words in (("rev-parse", "--short=12", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):  # no git, or not the owner's checkout
        return None
    return commit.strip() + ("+changes" if changes.strip() else "")


def setup(threads: int, gpu: str | None, backend: str) -> dict[str, str]:
    """Where and by what a job is run."""
    device = f"{processor()}, threads: {threads}"
    if gpu is not None:
        device = f"{torch.cuda.get_device_name(int(gpu))}; {device}"
    return {
        "device": device,
        "cores": str(len(os.sched_getaffinity(0))),
        "system": platform.platform(),
        "versions": versions(),
        "revision": revision() or "not a checkout",
        "backend": backend,
    }


def data_of(net: pb.NetParameter) -> dict[str, dict]:
    """Path -> what lies there, of every database and mean file that the net reads."""
    found = {}
    for layer in net.layer:
        for source in (layer.data_param.source, layer.data_param.label_source):
            if source:
                found[source] = database(os.path.realpath(source))
        if layer.transform_param.mean_file:
            found[layer.transform_param.mean_file] = {"sha256": digest(layer.transform_param.mean_file)}
    return found


@cache
def database(path: str) -> dict:
    """The number of records and a checksum of them all: its converter's if that left one, else our own."""
    reader = open_database(path)
    written = Path(path, FILE)
    if written.exists():
        said = _said(written)
        if not has_form(said, {"dataset": str, "crc32": str}) or said["crc32"] != _sums(path):
            raise ValueError(
                f"{written} is damaged or of another database: convert the data again, or remove it to have "
                "the records themselves summed up"
            )
        return {"records": len(reader), "dataset": said["dataset"], "crc32": said["crc32"]}
    sum_ = hashlib.sha256()
    for key, value in reader.items():
        for part in (key, value):
            sum_.update(len(part).to_bytes(8, "little") + part)
    return {"records": len(reader), "sha256": sum_.hexdigest()}


def _said(file: Path):
    """What a JSON file holds; None if it is none."""
    try:
        return json.loads(file.read_bytes())
    except (ValueError, RecursionError):  # no JSON, or brackets in brackets
        return None


def _sums(path: str) -> str | None:
    """sha256 of the checksums beside a database's records."""
    sums = os.path.join(path, checksums.NAME)
    return digest(sums) if os.path.exists(sums) else None


def digest(path: str) -> str:
    """sha256 of a file."""
    stat = os.stat(path)
    return _digest(path, stat.st_mtime_ns, stat.st_size)


@cache
def _digest(path: str, *of_version: int) -> str:
    sum_ = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            sum_.update(block)
    return sum_.hexdigest()


def record(folder: Path, content: dict, setup: dict[str, str]) -> None:
    """Writes the job's manifest: `content`, the same however often it is resumed, and every setup it ran on.

    Raises ValueError if the folder's job was begun with other content: its data changed in between.
    """
    runs = []
    if (folder / FILE).exists():
        before = read(folder)
        runs = before.pop("runs")
        if before != content:
            changed = [name for name in content if content[name] != before.get(name)]
            raise ValueError(
                f"{folder} was begun with other {' and '.join(changed)}: move it away to begin anew, "
                "or bring back what it was begun with"
            )
    if setup not in runs:
        runs.append(setup)
    write_bytes(folder / FILE, json.dumps({**content, "runs": runs}, indent=1).encode())


def check_alike(contents: Mapping[str, dict]) -> None:
    """Raises ValueError if two jobs, by name, are made from data or weights that differ."""
    for what in ("data", "weights"):
        seen: dict[str, tuple[str, object]] = {}
        for job, made_from in contents.items():
            for path, content in made_from.get(what, {}).items():
                other, first = seen.setdefault(path, (job, content))
                if first != content:
                    raise ValueError(
                        f"{job} and {other} are made with different {path}: {content} and {first}; "
                        "bring it back as it was, or move the folder of the one away to run it anew"
                    )


def read(folder: Path) -> dict:
    """The manifest of a job. Raises OSError if there is none, ValueError if it is damaged."""
    said = _said(folder / FILE)
    if not has_form(said, {"data": {str: dict}, "runs": [{str: str}]}) or not said["runs"]:
        raise ValueError(f"{folder / FILE} is damaged: move {folder} away to run its job anew")
    return said
