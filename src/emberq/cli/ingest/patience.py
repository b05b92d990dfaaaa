"""Requests that wait while the API, or a server behind it, is away or full."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from threading import Event, Lock
from typing import Any, Final, TypeVar

from emberq.cli.client import Client, NotReachable, Problem
from emberq.retry.backoff import Backoff
from emberq.visible import visible

T = TypeVar("T")

#: Seconds for which a request is tried again while the API is full or away.
_RETRY_SECONDS: Final = 300.0
#: The same, while the API has not answered at all yet: its address may be wrong.
_FIRST_SECONDS: Final = 60.0
#: Pauses between attempts, where the API names none.
_BACKOFF: Final = Backoff(first_seconds=0.5, longest_seconds=10.0, jitter=0.3)
#: Statuses of an API that is full or away.
_FULL: Final = (429, 503)


class Patience:
    """Sends requests of many threads again while the API is full or away, and says so once.

    Attributes:
        stop: Set it to end all waiting; the requests then fail.
    """

    def __init__(self, client: Client) -> None:
        """Send requests with a client."""
        self.client = client
        self.stop = Event()
        self._lock = Lock()
        self._has_answered = False
        self._has_told = False

    def get(self, path: str, **params: Any) -> Any:
        """Return the JSON of a GET, as `Client.get`."""
        return self.send(lambda: self.client.get(path, **params))

    def send(self, request: Callable[[], T]) -> T:
        """Return what a request returns, once the API takes it.

        Args:
            request: Sends it; may be called several times.

        Raises:
            Problem: If the API refuses it, or is full or without its database for five minutes.
            NotReachable: If the API does not answer for five minutes, or for one if it never did.
        """
        started = time.monotonic()
        failures = 0
        while True:
            try:
                answer = request()
            except (Problem, NotReachable) as exc:
                is_away = isinstance(exc, NotReachable)
                if isinstance(exc, Problem):
                    self._has_answered = True
                    if exc.status not in _FULL:
                        raise
                most = _FIRST_SECONDS if is_away and not self._has_answered else _RETRY_SECONDS
                if time.monotonic() - started > most:
                    raise
                self._tell(exc, most)
                failures += 1
                given = exc.retry_after if isinstance(exc, Problem) else None
                if self.stop.wait(given or _BACKOFF.pause_seconds(failures)):
                    raise
            else:
                self._has_answered, self._has_told = True, False
                return answer

    def _tell(self, error: Problem | NotReachable, seconds: float) -> None:
        with self._lock:
            if not self._has_told:
                self._has_told = True
                line = f"{visible(error.message)} Trying again for up to {seconds:.0f} s; Ctrl-C stops."
                sys.stderr.write(f"{line}\n")
