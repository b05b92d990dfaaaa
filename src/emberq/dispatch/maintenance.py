"""The keeper: the periodic duties of every living process that can do them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from emberq.config.current import get_worker_config
from emberq.dispatch.admit import admit
from emberq.dispatch.blob_gc import BlobGarbageCollector
from emberq.dispatch.prune import prune_extractions, prune_jobs, prune_vectors
from emberq.dispatch.recover import reap, sweep, take_over_neighbours
from emberq.errors import DatabaseUnavailable, EmberqError
from emberq.store.admin.hosts import BEAT_SECONDS, LEASE_SECONDS
from emberq.store.services import Services
from emberq.system.machine import machine_identity
from emberq.telemetry.logs import get_logger

__all__ = ["Maintenance"]

log = get_logger(__name__)

#: Seconds between two looks whether another host on this machine died.
_NEIGHBOUR_SECONDS = 1.0
#: Seconds between two looks for jobs that may start; uploads and ends of jobs admit at once anyway.
_ADMIT_SECONDS = 1.0
#: Seconds between two sweeps for vanished tickets.
_SWEEP_SECONDS = 5.0
#: Seconds between two looks for what ended too long ago to be kept.
_RETIRE_SECONDS = 60.0
#: Seconds between two looks for bytes that no file refers to.
_COLLECT_SECONDS = 60.0
#: Seconds that every host gets to renew its lease after PostgreSQL was away, or this process: none could
#: be renewed meanwhile, so a lease that ran out says nothing yet. Two beats and what they may take.
_ROLL_CALL_SECONDS = 2.5 * BEAT_SECONDS


class Maintenance:
    """Admits, sweeps, reaps, retires and collects; any number of keepers may run side by side.

    Invariant: a duty that fails is logged and tried again at its next turn; the others go on. No lease is
    judged by a keeper that could not have seen it renewed.
    """

    def __init__(self, services: Services) -> None:
        """Keep the jobs of these services moving."""
        self._services = services
        self._duties: list[tuple[str, float, Callable[[], object]]] = [
            ("neighbours", _NEIGHBOUR_SECONDS, self._take_over_neighbours),
            ("reap", BEAT_SECONDS, self._reap),
            ("admit", _ADMIT_SECONDS, self._admit),
            ("sweep", _SWEEP_SECONDS, self._sweep),
            ("prune", _RETIRE_SECONDS, self._prune),
            ("collect", _COLLECT_SECONDS, BlobGarbageCollector(services).turn),
        ]
        self._due: dict[str, float] = {}
        self._reap_from = 0.0
        self._ticked_at = math.inf

    def add(self, name: str, every_seconds: float, duty: Callable[[], object]) -> None:
        """Add a duty of the process itself, such as the host's beat; it comes first."""
        self._duties.insert(0, (name, every_seconds, duty))

    def hasten(self, name: str) -> None:
        """Make a duty due at the next tick."""
        self._due.pop(name, None)

    def tick(self) -> None:
        """Do what is due."""
        if time.monotonic() - self._ticked_at > LEASE_SECONDS:
            self._grace_after_outage()
        for name, every_seconds, duty in self._duties:
            now = time.monotonic()
            if now < self._due.get(name, 0.0):
                continue
            self._due[name] = now + every_seconds
            try:
                duty()
            except EmberqError as exc:
                log.warning("duty_failed", duty=name, error_code=exc.code, error=exc.message)
                if isinstance(exc, DatabaseUnavailable):
                    self._grace_after_outage()
        self._ticked_at = time.monotonic()

    def run(self, stop: threading.Event, *, every_seconds: float = 0.5) -> None:
        """Tick until `stop` is set; the body of the API's keeper thread."""
        while not stop.wait(every_seconds):
            try:
                self.tick()
            except Exception as exc:
                log.exception("keeper_failed", error=type(exc).__name__)

    def _admit(self) -> None:
        admit(self._services, job_timeout_seconds=get_worker_config().settings.job_timeout)

    def _sweep(self) -> None:
        sweep(self._services, job_timeout_seconds=get_worker_config().settings.job_timeout)

    def _take_over_neighbours(self) -> None:
        take_over_neighbours(self._services, machine_identity())

    def _grace_after_outage(self) -> None:
        self._reap_from = time.monotonic() + _ROLL_CALL_SECONDS

    def _reap(self) -> None:
        if time.monotonic() < self._reap_from:
            return
        reap(self._services, retry_delay_seconds=get_worker_config().settings.job_retry_delay)

    def _prune(self) -> None:
        settings = get_worker_config().settings
        prune_jobs(self._services, retention_seconds=settings.job_retention)
        prune_extractions(self._services, ttl_seconds=settings.extraction_ttl)
        prune_vectors(
            self._services, ttl_seconds=settings.embedding_cache_ttl, max_rows=settings.embedding_cache_rows
        )
