"""Generations: preloaders with the resources as they were when they loaded them, the newest last."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from emberq.system.messages import is_readable
from emberq.telemetry.logs import get_logger
from emberq.worker.preloader.preloader import Preloader, PreloaderLost, PreloadFailed

__all__ = ["Generation", "Generations", "NoGeneration"]

log = get_logger(__name__)

#: Processes of a new generation that may die before they serve; then it is given up.
_MAX_FAILURES = 3

#: Seconds between two looks whether the first generation is still wanted.
_WAIT_SECONDS = 0.1


class NoGeneration(Exception):
    """Nothing could be loaded, time and again; there is nothing to run on."""


@dataclass(slots=True, eq=False)
class Generation:
    """A preloader and how far it is.

    Attributes:
        number: Grows by one with every generation of a supervisor.
        reason: Why it was made: `start`, `sighup`, `reload`, `configuration`, `preloader_lost`.
        preloader: The process.
        state: `loading`, then `ready`; `abandoned` when its processes do not come to serve; `lost` when
            the preloader died.
        failures: Processes of it that died before they served.
        label: What it was made of, in its owner's words.
    """

    number: int
    reason: str
    preloader: Preloader
    state: Literal["loading", "ready", "abandoned", "lost"] = "loading"
    failures: int = field(default=0)
    label: str = ""

    def note_failure(self) -> None:
        """Count a process that died before it served; too many, and the generation is given up."""
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
        """End the preloader and all it forked."""
        if self.state == "loading":
            # It looks at its socket only once it has loaded.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.preloader.pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            self.preloader.stop()
        self.state = "lost"


class Generations:
    """All generations that have not ended.

    Invariant: at most one is loading; those that nobody uses any more are ended, except the newest.
    """

    def __init__(
        self, begin: Callable[[], Preloader], *, max_failed_loads: int, label: Callable[[], str] = str
    ) -> None:
        """Take what makes generations.

        Args:
            begin: Begins a preloader.
            max_failed_loads: How often in a row loading may fail for good.
            label: Says what a generation that begins now is made of.
        """
        self._begin = begin
        self._label = label
        self._max_failed_loads = max_failed_loads
        self._failed_loads = 0
        self._latest_number = 0
        self._wanted: str | None = None
        self._all: list[Generation] = []

    @property
    def newest(self) -> Generation | None:
        """The newest generation that is ready."""
        ready = [one for one in self._all if one.state == "ready"]
        return ready[-1] if ready else None

    def want(self, reason: str) -> None:
        """Ask for a new generation; it begins once none is loading."""
        self._wanted = reason

    def start(self, *, is_wanted: Callable[[], bool]) -> None:
        """Load the first generation and wait for it, as long as it is wanted.

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
        """Take note of what has been loaded and begin what is wanted.

        Raises:
            NoGeneration: If nothing is there to run on and loading fails time and again.
        """
        for one in list(self._all):
            if one.state == "loading":
                self._look_at(one)
        if any(one.state == "loading" for one in self._all):
            return
        if self._wanted is None and self.newest is None:
            self._wanted = "preloader_lost"
        if self._wanted is not None:
            reason, self._wanted = self._wanted, None
            self._add(reason)

    def poll_exits(self) -> dict[int, int]:
        """Return the wait statuses, by process id, of children of all preloaders."""
        return {pid: status for one in self._all for pid, status in one.poll_exits().items()}

    def end_unused(self, used: Collection[Generation]) -> None:
        """End those that no process works with any more."""
        for one in list(self._all):
            if one is not self.newest and one.state != "loading" and one not in used:
                one.end()
                self._all.remove(one)
                log.info("generation_ended", generation=one.number)

    def end_all(self) -> None:
        """End every preloader and all they forked."""
        while self._all:
            self._all.pop().end()

    def close_channels(self) -> None:
        """Close this process's ends, in a forked child: a held end hides the owner's death."""
        for one in self._all:
            one.preloader.channel.close()

    def _add(self, reason: str) -> Generation:
        self._latest_number += 1
        label = self._label()
        begun = Generation(self._latest_number, reason, self._begin(), label=label)
        self._all.append(begun)
        log.info(
            "generation_begun", generation=begun.number, reason=reason, preloader_pid=begun.preloader.pid
        )
        return begun

    def _look_at(self, one: Generation) -> None:
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
