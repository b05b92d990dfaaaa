"""Generations: preloaders, each with the resources as they were when it loaded them; the newest is used."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from emberq.system.messages import is_readable
from emberq.telemetry.logs import get_logger
from emberq.worker.preloader.preloader import Preloader, PreloaderLost, PreloadFailed

log = get_logger(__name__)

#: Processes of a new generation that may die before they serve; then it is abandoned.
_MAX_FAILURES = 3

#: Seconds between two checks whether the first generation is still wanted.
_WAIT_SECONDS = 0.1


class NoGeneration(Exception):
    """No generation could be loaded, time and again."""


@dataclass(slots=True, eq=False)
class Generation:
    """A preloader and its state.

    Attributes:
        number: Grows by one with every generation of a supervisor.
        reason: Why it was started: `start`, `sighup`, `reload`, `configuration`, `preloader_lost`.
        preloader: The process.
        state: `loading`, then `ready`; `abandoned` when its processes do not come to serve; `lost` when
            the preloader died.
        failures: Processes of it that died before they served.
        label: The versions it was loaded from, in its owner's words.
    """

    number: int
    reason: str
    preloader: Preloader
    state: Literal["loading", "ready", "abandoned", "lost"] = "loading"
    failures: int = 0
    label: str = ""

    def note_failure(self) -> None:
        """Count a process that died before it served; after three the generation is abandoned."""
        self.failures += 1
        if self.failures >= _MAX_FAILURES:
            self.state = "abandoned"
            log.error("generation_abandoned", generation=self.number, failures=self.failures)

    def poll_exits(self) -> dict[int, int]:
        """Return the wait statuses, by process id, of the preloader's children that ended."""
        if self.state in ("loading", "lost"):
            return {}
        try:
            return self.preloader.poll_exits()
        except PreloaderLost:
            self.state = "lost"
            log.error("preloader_lost", generation=self.number)
            return {}

    def end(self) -> None:
        """End the preloader and all its children."""
        if self.state == "loading":
            # It reads its socket only once it has loaded.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.preloader.pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            self.preloader.stop()
        self.state = "lost"


class Generations:
    """All generations that have not ended.

    Invariant: at most one is loading; one without processes is ended, except the newest.
    """

    def __init__(
        self,
        start_preloader: Callable[[], Preloader],
        *,
        max_failed_loads: int,
        label: Callable[[], str] = str,
    ) -> None:
        """Begin without a generation.

        Args:
            start_preloader: Forks a preloader.
            max_failed_loads: Loads that may fail in a row while there is no generation.
            label: Returns the label of a generation that is started now.
        """
        self._start_preloader = start_preloader
        self._label = label
        self._max_failed_loads = max_failed_loads
        self._failed_loads = 0
        self._latest_number = 0
        #: The reason for the generation to start next.
        self._requested: str | None = None
        self._all: list[Generation] = []

    @property
    def newest(self) -> Generation | None:
        """The newest generation that is ready."""
        ready = [one for one in self._all if one.state == "ready"]
        return ready[-1] if ready else None

    def request(self, reason: str) -> None:
        """Request a new generation; it is started once none is loading."""
        self._requested = reason

    def start(self, *, is_wanted: Callable[[], bool]) -> None:
        """Start the first generation and wait until it is ready, as long as it is wanted.

        Raises:
            PreloadFailed: If the resources could not be loaded.
        """
        first = self._add("start")
        while is_wanted():
            if is_readable(first.preloader.channel, _WAIT_SECONDS):
                first.preloader.wait_ready()
                first.state = "ready"
                return

    def advance(self) -> None:
        """Take note of a generation that has loaded, and start a requested one.

        Raises:
            NoGeneration: If there is none to run on and loading fails time and again.
        """
        for one in list(self._all):
            if one.state == "loading":
                self._check_loading(one)
        if any(one.state == "loading" for one in self._all):
            return
        if self._requested is None and self.newest is None:
            self._requested = "preloader_lost"
        if self._requested is not None:
            reason, self._requested = self._requested, None
            self._add(reason)

    def poll_exits(self) -> dict[int, int]:
        """Return the wait statuses, by process id, of children of all preloaders."""
        return {pid: status for one in self._all for pid, status in one.poll_exits().items()}

    def end_unused(self, used: Collection[Generation]) -> None:
        """End the generations that no process works with any more, except the newest."""
        for one in list(self._all):
            if one is not self.newest and one.state != "loading" and one not in used:
                one.end()
                self._all.remove(one)
                log.info("generation_ended", generation=one.number)

    def end_all(self) -> None:
        """End every preloader and all their children."""
        while self._all:
            self._all.pop().end()

    def _add(self, reason: str) -> Generation:
        self._latest_number += 1
        label = self._label()
        added = Generation(self._latest_number, reason, self._start_preloader(), label=label)
        self._all.append(added)
        log.info(
            "generation_started", generation=added.number, reason=reason, preloader_pid=added.preloader.pid
        )
        return added

    def _check_loading(self, one: Generation) -> None:
        try:
            if one.preloader.is_ready():
                one.state = "ready"
                self._failed_loads = 0
                log.info("generation_ready", generation=one.number, reason=one.reason)
        except PreloadFailed as exc:
            self._all.remove(one)
            self._failed_loads += 1
            log.error("generation_failed", generation=one.number, reason=str(exc))
            if self.newest is None and self._failed_loads >= self._max_failed_loads:
                raise NoGeneration from exc
