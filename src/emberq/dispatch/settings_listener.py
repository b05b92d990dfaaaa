"""Follows the configuration: takes in pushed changes at once, and polls for the newest version."""

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

log = get_logger(__name__)

#: Seconds between two polls for the newest version, also while the push seems alive: a proxy that swallows
#: notices, or a connection cut without notice, looks as if there were no changes.
_POLL_SECONDS = 5.0
#: Most seconds that the thread of the API waits for a notice.
_WAIT_SECONDS = 0.25


class SettingsListener:
    """Keeps up to date the process's snapshot, and the shared version that forked processes read.

    The supervisor, which forks and so has no threads, calls `tick` ten times a second; the API runs
    `run` in a thread.

    Invariant: a committed change is in the process's snapshot after one tick if it was pushed, and
    after `poll_seconds` if not, as long as the database answers.
    """

    def __init__(
        self,
        services: Services,
        *,
        name: str,
        on_change: Callable[[Snapshot], None] | None = None,
        poll_seconds: float = _POLL_SECONDS,
    ) -> None:
        """Follow the settings; `on_change` is called when the snapshot or its unreadable values changed."""
        self._services = services
        self._on_change = on_change
        self._poll_seconds = poll_seconds
        self._cache = get_config_cache()
        self._seen: tuple[Snapshot, tuple[Unreadable, ...]] | None = None
        self._poll_due = 0.0
        self._is_failing = False
        self.listener = Listener(
            services.database.url, SETTINGS_CHANNEL, application_name=f"emberq-config-{name}"
        )

    @property
    def is_pushed(self) -> bool:
        """Whether changes arrive at once, as far as is known."""
        return self.listener.is_connected

    def tick(self) -> None:
        """Take in pushed changes, poll if it is due, and load a newer snapshot at once."""
        connects, losses = self.listener.connects, self.listener.losses
        pushed = [int(payload) for payload in self.listener.poll() if payload.isdigit()]
        if self.listener.losses != losses:
            metrics.count_push_loss()
        if pushed:
            self._cache.newest.announce(max(pushed))
        # Notices sent before the connection was made are lost, so a new connection starts with a poll.
        if self.listener.connects != connects or time.monotonic() >= self._poll_due:
            self._poll()
        self._load()

    def run(self, stop: threading.Event) -> None:
        """Tick at each notice until `stop` is set; the body of the API's thread."""
        while not stop.is_set():
            try:
                self.tick()
            except Exception as exc:
                log.exception("settings_listener_failed", error=type(exc).__name__)
                stop.wait(_WAIT_SECONDS)
            self.listener.wait(_WAIT_SECONDS)
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self.listener.close()

    def _load(self) -> None:
        try:
            seen = (self._cache.get(), self._cache.unreadable)
        except EmberqError as exc:
            self._log_failure(exc)
            return
        if seen != self._seen:
            if self._seen is not None:
                log.info("config_changed", version=seen[0].version, unreadable=len(seen[1]))
            self._seen = seen
            if self._on_change is not None:
                self._on_change(seen[0])

    def _poll(self) -> None:
        self._poll_due = time.monotonic() + self._poll_seconds
        try:
            self._cache.newest.confirm(self._newest_version)
        except EmberqError as exc:
            self._log_failure(exc)
        else:
            self._is_failing = False

    def _newest_version(self) -> int:
        with self._services.database.system_transaction() as connection:
            return settings_version(connection)

    def _log_failure(self, exc: EmberqError) -> None:
        if not self._is_failing:
            log.warning("config_poll_failed", error_code=exc.code, error=exc.message)
        self._is_failing = True
