"""Ctrl+C and kill: finish the step, keep what was learned, then end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

LAUNCHER = "TORCHELASTIC_RUN_ID"  # in the environment of processes that a launcher of several looks after
ECHO = 5.0  # seconds in which such a launcher passes on what the terminal has told all of them already


class StopRequest:
    """Remembers the first SIGINT or SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._asked_at = 0.0
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        now, is_first = time.monotonic(), self.signal is None
        if not is_first and now - self._asked_at < ECHO:
            return
        if is_first:
            self.signal, self._asked_at = number, now
            if LAUNCHER in os.environ:
                return
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)
        if not is_first:
            signal.raise_signal(number)

    @property
    def asked(self) -> bool:
        """Whether the run should end after this step."""
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status that shells expect of a process ended by this signal: 130 or 143."""
        return 128 + (self.signal or 0)

    def close(self) -> None:
        """Gives the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def signals_later() -> Iterator[None]:
    """Holds SIGINT and SIGTERM back for a while; a process that begins meanwhile never gets them."""
    if not hasattr(signal, "pthread_sigmask"):  # on Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_signals_to_the_run(_: int = 0) -> None:
    """Makes a process that reads ahead deaf to them: a terminal tells the whole group, and the run still needs it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
