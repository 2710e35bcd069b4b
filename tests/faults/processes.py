"""crnn commands in processes of their own, which faults strike: killed, or failed by the system at a call.

A process is forked from this one, which has imported all of crnn and runs nothing itself, so that one starts
in milliseconds; what it then does is `crnn WORDS`. `calls.c`, preloaded, counts its calls that change files.
"""

import contextlib
import ctypes
import errno
import functools
import gc
import importlib
import io
import os
import pkgutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/faults"
LIBRARY = BUILD / "calls.so"
HERE = Path(__file__).parent
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
LONGEST = 120  # seconds that a process may take
HUNG = 124  # exit code of one that took longer, as `timeout` has it


def preloaded() -> None:
    """Starts this program again with calls.c preloaded and one thread a process, unless it is."""
    if os.environ.get("LD_PRELOAD") == str(LIBRARY):
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    part = LIBRARY.with_suffix(f".{os.getpid()}")
    flags = ["-O1", "-shared", "-fPIC", "-Wall", "-o", str(part), str(HERE / "calls.c"), "-ldl"]
    subprocess.run([os.environ.get("CC", "cc"), *flags], check=True)
    part.replace(LIBRARY)
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **one, "LD_PRELOAD": str(LIBRARY)}
    os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], environment)


def import_all() -> None:
    """All of crnn that a command may need, once for all children."""
    import cv2
    import torch

    from crnn import __main__, data_tools, tools

    __main__.commands = functools.cache(__main__.commands)
    __main__.commands()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    for package in (tools, data_tools):
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")
    gc.freeze()


@dataclass(frozen=True)
class Fault:
    """What strikes the `at`-th call on files below `folder`: an errno, 0 for SIGKILL. at 0: nothing."""

    folder: Path
    at: int = 0
    error: int = 0

    def arm(self) -> None:
        ctypes.CDLL(None).fault_arm(os.fsencode(f"{self.folder}"), ctypes.c_long(self.at), self.error)


@dataclass(frozen=True)
class Ended:
    """code: exit code, or minus the signal.    said: stderr.    calls: counted, of one that ended itself."""

    code: int
    said: str
    printed: str
    calls: int
    peak: int  # MB of memory

    @property
    def sentence(self) -> str | None:
        """What a refusal told the user: the last line of stderr; None if that is a traceback."""
        lines = self.said.strip().splitlines()
        return lines[-1] if lines and "Traceback (most recent call last)" not in self.said else None

    @property
    def refused(self) -> bool:
        """Whether it ended as a command does that cannot do what it should."""
        return self.code == 1 and self.sentence is not None


class Child:
    """A process that runs work() in `folder`; its exit code is what work returns."""

    def __init__(self, folder: Path, work: Callable[[], int], fault: Fault | None = None):
        self.stderr, self.stdout = (open(folder / f".{name}", "w+b") for name in ("stderr", "stdout"))  # noqa: SIM115
        self.counted, self._count = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(folder, work, fault)
        os.close(self._count)

    def _run(self, folder: Path, work: Callable[[], int], fault: Fault | None) -> None:
        """Never returns."""
        code = 1
        try:
            os.chdir(folder)
            os.dup2(self.stdout.fileno(), 1)
            os.dup2(self.stderr.fileno(), 2)
            sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), line_buffering=True)
            sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", closefd=False), line_buffering=True)
            if fault:
                fault.arm()
            code = work()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os.write(self._count, b"%d" % ctypes.c_long(ctypes.CDLL(None).fault_calls()).value)
            os._exit(code or 0)

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def waits_for(self, said: bytes) -> bool:
        """Returns True once stderr has `said`, False where the process ends before."""
        end = time.monotonic() + LONGEST
        while time.monotonic() < end:
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            if said in Path(self.stderr.name).read_bytes():
                return True
            if ended:
                return False
            time.sleep(0.002)
        self.send(signal.SIGKILL)
        raise TimeoutError(f"a process never said {said!r}")

    def wait(self) -> Ended:
        end, late = time.monotonic() + LONGEST, False
        while not (ended := os.wait4(self.pid, os.WNOHANG))[0]:
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                ended, late = os.wait4(self.pid, 0), True
                break
            time.sleep(0.002)
        texts = []
        for stream in (self.stderr, self.stdout):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
            stream.close()
        counted = os.read(self.counted, 32)
        os.close(self.counted)
        peak = ended[2].ru_maxrss // 1024
        code = HUNG if late else os.waitstatus_to_exitcode(ended[1])
        return Ended(code, *texts, int(counted or 0), peak)


def crnn(*words: str) -> Callable[[], int]:
    """The work of `crnn WORDS`."""
    from crnn.__main__ import main

    return lambda: main(list(words))


def run(folder: Path, work: Callable[[], int], fault: Fault | None = None) -> Ended:
    return Child(folder, work, fault).wait()
