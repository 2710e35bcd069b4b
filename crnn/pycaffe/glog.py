"""What Caffe would log: a solver's lines on stderr, unless GLOG_minloglevel or set_logging_disabled says no.

Caffe: glog; init_log and log in python/caffe/_caffe.cpp.
"""

import os
import sys

from crnn.solver.events import Event, Note
from crnn.solver.log import GlogLines

_disabled = False


def set_logging_disabled(disabled: bool = True) -> None:
    global _disabled
    _disabled = disabled


def init_log(level: int = 0, stderr: bool = True) -> None:
    """Logs from `level` on: 0 is everything, 1 and more nothing, for a solver's lines are all of level 0."""
    set_logging_disabled(level > 0 or not stderr)


def log(text: str) -> None:
    """Logs a line of the caller's."""
    solver_lines(Note("_caffe.cpp", text))


def solver_lines(event: Event) -> None:
    """A listener of crnn.solver."""
    level = os.environ.get("GLOG_minloglevel") or 0  # noqa: SIM112 (glog's own name)
    if not _disabled and int(level) < 1:
        GlogLines(sys.stderr)(event)
