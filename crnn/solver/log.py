"""Listeners for people: Caffe's log lines and a progress bar; with rows.py they make the usual set."""

import shutil
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from crnn.solver.events import Displayed, Event, Finished, Note, Output, Scored, Scoring, Started, Stepped
from crnn.solver.prefix import probe
from crnn.solver.rows import Rows


def listeners(prefix: str, stream: TextIO | None = None) -> list:
    """The usual set for a run whose snapshots begin with `prefix`.

    Rows always; on a terminal a bar, with Caffe's lines in <prefix>.log; elsewhere those lines on `stream`
    (None: stderr).
    """
    stream = Lasting(sys.stderr if stream is None else stream)
    probe(prefix, 0)
    if not stream.isatty():
        return [GlogLines(stream), Rows(prefix)]
    log = open(f"{prefix}.log", "a", encoding="utf-8", buffering=1)  # noqa: SIM115 (open as long as the run)
    return [GlogLines(log), Rows(prefix), Progress(stream)]


class Lasting:
    """A stream for people, which a run outlives: of a terminal or pipe that is gone, nothing more is said.

    stream: None, as sys.stderr where it was closed before the start, says nothing at all.
    """

    def __init__(self, stream: TextIO | None):
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None)  # tqdm chooses its signs by it

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda: self.stream.flush())

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def _try(self, do: Callable[[], object]) -> None:
        try:
            if self.stream is not None:
                do()
        except OSError:
            self.stream = None


class GlogLines:
    """Writes what Caffe logs, token by token, so that its parse_log works on it (src/caffe/solver.cpp)."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def __call__(self, event: Event) -> None:
        for where, text in lines(event):
            self.line(where, text, event.severity if isinstance(event, Note) else "I")

    def line(self, where: str, text: str, severity: str = "I") -> None:
        now = datetime.now().strftime("%m%d %H:%M:%S.%f")  # no year: parse_log.py dies of glog 0.6's
        self.stream.write(f"{severity}{now} {threading.get_native_id():5d} {where}] {text}\n")
        self.stream.flush()


def lines(event: Event) -> list[tuple[str, str]]:
    """The (place in Caffe's source, text) pairs that Caffe logs for an event."""
    match event:
        case Note():
            return [(event.where, event.text)]
        case Displayed():
            rate = event.iterations / (event.lapse or 1)
            timing = f"({rate:g} iter/s, {event.lapse:g}s/{event.every} iters)"
            head = ("solver.cpp:239", f"Iteration {event.iter} {timing}, loss = {number(event.loss)}")
            return [head, *_outputs("solver.cpp:258", "Train", event.outputs)]
        case Scoring():
            return [("solver.cpp:347", f"Iteration {event.iter}, Testing net (#{event.net})")]
        case Scored():
            head = [] if event.loss is None else [("solver.cpp:404", f"Test loss: {number(event.loss)}")]
            return head + _outputs("solver.cpp:414", "Test", event.outputs)
    return []


def number(value: float) -> str:
    """A number as C++ streams print it: six digits; nan without a sign, which parse_log.py cannot read."""
    return f"{value:g}"


def with_loss(output: Output) -> str:
    """ "accuracy = 0.5", or for a loss "loss = 2 (* 0.5 = 1 loss)"."""
    text = f"{output.name} = {number(output.value)}"
    if output.weight:
        text += f" (* {number(output.weight)} = {number(output.weight * output.value)} loss)"
    return text


def _outputs(where: str, phase: str, outputs: tuple[Output, ...]) -> list[tuple[str, str]]:
    return [(where, f"    {phase} net output #{i}: {with_loss(output)}") for i, output in enumerate(outputs)]


class Progress:
    """A tqdm bar: iteration of total, time left, smoothed loss, images/s; above it test results and notes."""

    def __init__(self, stream: TextIO):
        self.stream, self.bar, self.images = stream, None, 0

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._start(event)
            case Stepped() if self.bar is not None:
                self.images += event.images
                speed = self.images / (self.bar.format_dict["elapsed"] or 1)
                self.bar.set_postfix_str(f"loss {event.loss:.4g}, {speed:.0f} images/s", refresh=False)
                self.bar.update(1)
            case Finished() if self.bar is not None:
                self.bar.close()
            case Scored():
                scores = ", ".join(f"{o.name} {o.value:.4g}" for o in event.outputs[:8])
                self._say(f"iteration {event.iter}, test net {event.net}: {scores}")
            case Note(shown=True):
                self._say(event.text)

    def _start(self, event: Started) -> None:
        from tqdm import tqdm

        self.images = 0
        columns, rows = shutil.get_terminal_size()  # tqdm's own guess hides the bar where a terminal says 0
        counts = {"total": event.max_iter, "initial": event.iter, "unit": "it"}
        self.bar = tqdm(**counts, file=self.stream, ncols=columns, nrows=rows)

    def _say(self, text: str) -> None:
        """Prints a line above the bar."""
        if self.bar is None:
            self.stream.write(text + "\n")
        else:
            self.bar.write(text, file=self.stream)
