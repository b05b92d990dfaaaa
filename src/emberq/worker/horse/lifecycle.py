"""The lifecycle of a worker's horse: where it comes from, and when another one takes its place."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from emberq.system.messages import Message
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.horse.handle import Horse
from emberq.worker.horse.replacement import reason_to_replace
from emberq.worker.horse.watchdog import end_horse
from emberq.worker.job.policy import HorsePolicy
from emberq.worker.preloader.preloader import Preloader, PreloaderClient, PreloaderLost

log = get_logger(__name__)

#: Seconds between two replacements for growth; a job that always grows must not cost a horse each time.
_MEMORY_REPLACE_SECONDS = 30.0
#: Seconds a horse gets to close what it has open when its worker leaves.
_CLOSE_SECONDS = 5.0


class HorseLifecycle:
    """One worker's preloader and its horse.

    Invariant: at most one horse, and one successor being made ready, have not been told to end; with a
    preloader of the worker's own, none is left after `close`.

    Attributes:
        horse: The horse, nothing before the first one and between two.
        restarts: Why horses were replaced, counted by reason.
        is_shared: Whether the preloader belongs to a supervisor, not to this worker.
    """

    def __init__(
        self,
        start_preloader: Callable[[], Preloader],
        *,
        preloader: PreloaderClient | None,
        spec: Message,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without a process; nothing is started.

        Args:
            start_preloader: Forks a preloader of the worker's own.
            preloader: A supervisor's preloader to use instead.
            spec: Sent to the preloader with every request for a horse.
            clock: Tells the time in seconds.
        """
        self._start_preloader = start_preloader
        self._preloader = preloader
        self._spec = spec
        self._clock = clock
        self._is_loading = False
        self._replaced_for_memory_at = -_MEMORY_REPLACE_SECONDS
        self.is_shared = preloader is not None
        self.horse: Horse | None = None
        self._successor: Horse | None = None
        self.restarts: dict[str, int] = {}

    def start(self) -> PreloaderClient:
        """Return the preloader, forked first if there is none; it loads the resources meanwhile."""
        if self._preloader is None:
            self._preloader = self._start_preloader()
            self._is_loading = True
        return self._preloader

    def ensure(self) -> Horse:
        """Return a living horse, forked first if there is none; takes milliseconds once all is loaded.

        Raises:
            PreloadFailed: If a resource could not be loaded; the message says which error.
            PreloaderLost: If the preloader is gone.
        """
        if self.horse is not None and not self.horse.is_alive():
            # A stuck horse does not notice that its socket is closed.
            end_horse(self.horse.child.pid, gently=False)
            self.discard("died")
        if self.horse is None and self._successor is not None and self._successor.is_alive():
            self.horse, self._successor = self._successor, None
        if self.horse is None:
            self.horse = self._fork()
        return self.horse

    def ensure_ready(self, policy: HorsePolicy) -> Horse:
        """Return a living, idle horse that may run another job; replaces the horse first if it may not.

        Raises:
            PreloadFailed: If a resource could not be loaded; the message says which error.
            PreloaderLost: If the preloader is gone.
        """
        self._replace_if_due(policy, self.ensure())
        return self.ensure()

    def discard(self, reason: str) -> None:
        """Let the horse end; the job that runs on it is lost.

        Args:
            reason: Why, as in `emberq_horse_restarts_total`.
        """
        if self.horse is None:
            return
        self.restarts[reason] = self.restarts.get(reason, 0) + 1
        metrics.count_horse_restart(reason)
        self.horse.close()
        log.info("horse_discarded", horse_pid=self.horse.child.pid, reason=reason, jobs=self.horse.jobs)
        self.horse = None

    def exit_status(self, pid: int, *, timeout_seconds: float) -> int | None:
        """Wait for a horse's end and return its wait status, nothing if none comes in time."""
        if self._preloader is None:
            return None
        with contextlib.suppress(PreloaderLost, OSError):
            return self._preloader.exit_status(pid, timeout_seconds=timeout_seconds)
        return None

    def forget_preloader(self) -> None:
        """Give up a preloader that is gone, and the horse that went with it."""
        self.discard("preloader_lost")
        if not self.is_shared:
            self.close()

    def close(self) -> None:
        """End the horse and the worker's own preloader."""
        for horse in (self.horse, self._successor):
            if horse is not None:
                horse.close()
                # Stopping the preloader now would SIGKILL the horse during its cleanup.
                self.exit_status(horse.child.pid, timeout_seconds=_CLOSE_SECONDS)
        self.horse = self._successor = None
        if isinstance(self._preloader, Preloader) and not self.is_shared:
            if self._is_loading:
                # It reads its socket only once it has loaded.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._preloader.pid, signal.SIGTERM)
            self._preloader.stop()
            self._preloader = None

    def _replace_if_due(self, policy: HorsePolicy, horse: Horse) -> None:
        """Replace a horse that has leaked, grown or served long enough; the successor is warm first."""
        may_replace_for_memory = self._clock() - self._replaced_for_memory_at > _MEMORY_REPLACE_SECONDS
        reason = reason_to_replace(horse, policy, for_memory=may_replace_for_memory)
        if reason is None:
            self._prepare_successor(policy, horse)
            return
        if self._successor is None or not self._successor.is_alive():
            self._successor = self._fork()
        if reason != "leak" and not self._successor.is_loaded:
            # A spawned successor loads first; the old horse may serve on meanwhile.
            return
        if reason == "memory":
            self._replaced_for_memory_at = self._clock()
        self.discard(reason)
        self.horse, self._successor = self._successor, None

    def _prepare_successor(self, policy: HorsePolicy, horse: Horse) -> None:
        """Fork the next horse while this one has a job left, so that it is up when that job is done."""
        if self._successor is None and horse.jobs == policy.horse_max_jobs - 1:
            with contextlib.suppress(PreloaderLost):
                self._successor = self._fork()

    def _fork(self) -> Horse:
        preloader = self.start()
        if self._is_loading and isinstance(preloader, Preloader):
            preloader.wait_ready()
            self._is_loading = False
        return Horse.fork(preloader, self._spec)
