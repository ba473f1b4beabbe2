"""The first signal is a request, the second an order."""

import os
import signal
import subprocess
import threading

import pytest

from library.train import signals
from library.train.signals import LAUNCHER, StopRequest, leave_signals_to_the_run, signals_later


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_remembered(number: signal.Signals, status: int) -> None:
    before = signal.getsignal(number)
    stop = StopRequest()
    try:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked and stop.status == status
        # Whoever is not patient may ask again and is obeyed at once.
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        stop.close()
    assert signal.getsignal(number) == before


def test_behind_a_launcher_an_echo_is_no_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl+C the launcher passes on to its processes what the terminal has told them already."""
    monkeypatch.setenv(LAUNCHER, "run")
    stop = StopRequest()
    try:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop.asked and stop.status == 130
        monkeypatch.setattr(signals, "ECHO", 0.0)
        told = []
        monkeypatch.setattr(signal, "raise_signal", told.append)
        os.kill(os.getpid(), signal.SIGTERM)
        assert told == [signal.SIGTERM] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        stop.close()


def test_readers_are_deaf() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        leave_signals_to_the_run()
        for number in before:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_signals_wait_and_whoever_begins_meanwhile_never_gets_them() -> None:
    stop = StopRequest()
    try:
        with signals_later():
            signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # another thread would take it
            assert not stop.asked
            sleeper = subprocess.Popen(["sleep", "60"])
        assert stop.asked and stop.status == 143
        sleeper.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            sleeper.wait(timeout=0.3)
    finally:
        stop.close()
        sleeper.kill()
        sleeper.wait()
