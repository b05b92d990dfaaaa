"""Follow the configuration: hear of a change at once, ask every few seconds in case nobody tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from emberq.config.current import get_config_cache
from emberq.config.snapshot import Snapshot, Unreadable
from emberq.errors import EmberqError
from emberq.store.admin.settings import SETTINGS_CHANNEL, settings_version
from emberq.store.listen import Listener
from emberq.store.services import Services
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger

__all__ = ["ConfigurationFollower"]

log = get_logger(__name__)

#: Seconds between two questions for the newest version. Asked even while the push seems alive: a proxy
#: that swallows notices, or a connection cut in silence, looks just the same as "nothing was changed".
_POLL_SECONDS = 5.0
#: Seconds the follower of a process that has a thread to spare for it waits at most.
_WAIT_SECONDS = 0.25


class ConfigurationFollower:
    """Keeps the process's snapshot, and the board that forked processes read, up to date.

    The supervisor, which forks and so has no threads, calls `tick` ten times a second; the API runs
    `run` in a thread.

    Invariant: a committed change is in the process's snapshot after one tick if it was pushed, and
    after `_POLL_SECONDS` if it was not, as long as the database answers.
    """

    def __init__(
        self,
        services: Services,
        *,
        name: str,
        on_change: Callable[[Snapshot], None] | None = None,
    ) -> None:
        """Follow the settings of these services; nothing is connected yet.

        Args:
            services: Where the settings are.
            name: The process, for the server's list of connections.
            on_change: Called when the snapshot, or what of it cannot be read, has changed.
        """
        self._services = services
        self._on_change = on_change
        self._cache = get_config_cache()
        self._seen: tuple[Snapshot, tuple[Unreadable, ...]] | None = None
        self._poll_due = 0.0
        self._is_poll_failing = False
        #: The newest version this connection told of, or began with.
        self._told = 0
        #: A version that was found by asking; the push owes it until the next question.
        self._owed = 0
        self._misses_in_row = 0
        self.listener = Listener(
            services.database.url, SETTINGS_CHANNEL, application_name=f"emberq-config-{name}"
        )
        #: How often a change was found by asking that the push, alive by all appearance, never told of.
        self.missed = 0

    @property
    def is_pushed(self) -> bool:
        """Whether changes arrive at once, as far as is known."""
        return self.listener.is_connected and self._misses_in_row == 0

    def tick(self) -> None:
        """Take in what was pushed, ask if it is time to, and load a newer snapshot at once."""
        connects, losses = self.listener.connects, self.listener.losses
        heard = [int(payload) for payload in self.listener.poll() if payload.isdigit()]
        if self.listener.losses != losses:
            metrics.count_push_loss("cut")
        if heard:
            self._told, self._misses_in_row = max(self._told, *heard), 0
            self._cache.newest.announce(self._told)
        # What was sent while nobody listened is lost, so a new connection begins with a question.
        is_new = self.listener.connects != connects
        if is_new or time.monotonic() >= self._poll_due:
            self._ask(is_new_connection=is_new)
        self._look()

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set, as soon as something is pushed; the body of the API's thread."""
        while not stop.is_set():
            try:
                self.tick()
            except Exception as exc:
                log.exception("config_follower_failed", error=type(exc).__name__)
                stop.wait(_WAIT_SECONDS)
            self.listener.wait(_WAIT_SECONDS)
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self.listener.close()

    def _look(self) -> None:
        try:
            seen = (self._cache.get(), self._cache.unreadable)
        except EmberqError as exc:
            self._complain(exc)
            return
        if seen != self._seen:
            if self._seen is not None:
                log.info("config_changed", version=seen[0].version, unreadable=len(seen[1]))
            self._seen = seen
            if self._on_change is not None:
                self._on_change(seen[0])

    def _ask(self, *, is_new_connection: bool) -> None:
        self._poll_due = time.monotonic() + _POLL_SECONDS
        newest = 0

        def read() -> int:
            nonlocal newest
            with self._services.database.transaction() as connection:
                newest = settings_version(connection)
            return newest

        try:
            self._cache.newest.confirm(read)
        except EmberqError as exc:
            self._complain(exc)
            return
        self._is_poll_failing = False
        self._check_push(newest, is_new_connection=is_new_connection)

    def _check_push(self, newest: int, *, is_new_connection: bool) -> None:
        """Replace a connection that still has not told of a change that the last question found."""
        if is_new_connection or newest < self._told:
            self._told, self._owed = newest, 0
        elif not self.listener.is_connected:
            self._owed = 0
        elif self._told < self._owed:
            self.missed += 1
            self._misses_in_row += 1
            metrics.count_push_loss("silent")
            log.warning("push_missed", version=self._owed, missed=self.missed)
            self._owed = 0
            self.listener.reset()
        elif newest > self._told:
            self._owed = newest

    def _complain(self, exc: EmberqError) -> None:
        if not self._is_poll_failing:
            log.warning("config_poll_failed", error_code=exc.code, error=exc.message)
        self._is_poll_failing = True
