"""Signals whose handlers raise, blocked in the middle of a message."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

from rq.timeouts import HorseMonitorTimeoutException

#: Signals whose handlers raise: RQ's monitoring alarm and requests to stop.
_RAISING = {signal.SIGALRM, signal.SIGTERM, signal.SIGINT}


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Deliver signals whose handlers raise only after the block, so that no message is cut in two."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _RAISING)
    try:
        yield
    finally:
        with contextlib.suppress(HorseMonitorTimeoutException):
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
