"""Ctrl+C and kill: finish the step, keep what was learned, then end."""

import signal
from types import FrameType


class StopRequest:
    """Remembers the first SIGINT or SIGTERM; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in self._before:
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)

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
