"""Signals as requests: a handler only notes what is wanted, the solver acts at its next step boundary."""

import signal

EFFECTS = ("stop", "snapshot", "none")


class Signals:
    """While entered: SIGINT has `sigint`'s effect, SIGHUP has `sighup`'s; SIGTERM stops, SIGUSR1 snapshots.

    A second SIGINT or SIGTERM after one that stops acts as if nothing had been set up, unless `patient`:
    a launcher hands on what its processes got already, and ends those that take too long itself.
    Only the main thread of a program can enter it (a rule of Python).
    """

    def __init__(self, sigint: str = "stop", sighup: str = "snapshot", patient: bool = False):
        for flag, effect in (("sigint_effect", sigint), ("sighup_effect", sighup)):
            if effect not in EFFECTS:
                raise ValueError(f"{flag} is one of {', '.join(EFFECTS)}, got {effect!r}")
        self._patient = patient
        self._effects = {
            signal.SIGINT: sigint,
            signal.SIGHUP: sighup,
            signal.SIGTERM: "stop",
            signal.SIGUSR1: "snapshot",
        }
        self._before: dict[int, object] = {}
        self._requests: list[str] = []
        self.stopped_by: int | None = None

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in self._effects}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        effect = self._effects[number]
        if effect == "stop":
            self.stopped_by = number
        if effect == "stop" and not self._patient:
            signal.signal(number, self._before[number])
        if effect != "none":
            self._requests.append(effect)

    def take(self) -> str | None:
        """The oldest request not yet taken: "stop", "snapshot" or None."""
        return self._requests.pop(0) if self._requests else None
