"""The first signal is a request, the second an order."""

import os
import signal

import pytest

from library.train.signals import StopRequest


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
