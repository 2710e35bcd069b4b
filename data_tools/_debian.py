"""A Debian package's files without installing it: downloaded by apt-get, unpacked; needs no root."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def downloaded(package: str) -> Iterator[Path]:
    """The root of a package's files, in a folder that goes with the block.

    Raises OSError with the last words of apt-get or dpkg-deb.
    """
    with tempfile.TemporaryDirectory() as scratch:
        own = {"Dir::Cache": f"{scratch}/cache", "Acquire::Retries": "1", "Acquire::http::Timeout": "20"}
        if os.geteuid() == 0:
            own["APT::Sandbox::User"] = "root"  # else apt warns that its own user cannot enter `scratch`
        try:
            _apt(["download", package], own, scratch)
        except OSError:  # the machine's package lists are empty or old
            own["Dir::State::Lists"] = f"{scratch}/lists"
            _apt(["update"], own, scratch)
            _apt(["download", package], own, scratch)
        for file in Path(scratch).glob(f"{package}_*.deb"):
            _run(["dpkg-deb", "-x", str(file), f"{scratch}/root"], scratch)
        yield Path(scratch, "root")


def _apt(command: list[str], options: dict[str, str], folder: str) -> None:
    for path in (value for name, value in options.items() if name.startswith("Dir::")):
        os.makedirs(path, exist_ok=True)
    _run(["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items()), *command], folder)


def _run(command: list[str], folder: str) -> None:
    if not shutil.which(command[0]):
        raise OSError(f"{command[0]} is not installed")
    english = {**os.environ, "LC_ALL": "C"}
    result = subprocess.run(command, cwd=folder, env=english, capture_output=True, text=True)
    if result.returncode:
        raise OSError(f"{command[0]} failed: {(result.stderr.strip() or 'no message').splitlines()[-1]}")
