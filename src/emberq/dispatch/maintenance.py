"""Maintenance: the periodic duties of every supervisor and API process.

=================  =====  ======================================================================
duty               every  what it does
=================  =====  ======================================================================
reap_neighbours    1 s    ends the attempts of hosts that died on this machine
reap_hosts         2 s    ends the attempts of hosts whose lease has expired
admit              1 s    gives tickets to waiting jobs; uploads and ended jobs do so at once
sweep              5 s    enqueues tickets again that are missing from Redis
purge              60 s   deletes old jobs, extractions and cached vectors
garbage_collect    60 s   deletes bytes that no file refers to
=================  =====  ======================================================================

A supervisor adds `renew_lease` and `reap_workers`: see `emberq.dispatch.host`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from emberq.config.current import get_worker_config
from emberq.dispatch.admit import admit
from emberq.dispatch.blob_gc import BlobGarbageCollector
from emberq.dispatch.purge import purge_audit_log, purge_ended_jobs, purge_extractions, purge_vectors
from emberq.dispatch.recover import reap_dead_neighbours, reap_expired_hosts, sweep
from emberq.dispatch.tickets import queue_error
from emberq.errors import DatabaseUnavailable, EmberqError
from emberq.store.admin.hosts import LEASE_RENEWAL_SECONDS, LEASE_SECONDS
from emberq.store.services import Services
from emberq.system.machine import machine_identity
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds in which every host can renew its lease after an outage of PostgreSQL, or after this process stood
#: still: an expired lease means nothing until then. Two renewals and the time they may take.
_GRACE_SECONDS = 2.5 * LEASE_RENEWAL_SECONDS


@dataclass(frozen=True, slots=True)
class Duty:
    """A periodic duty.

    Attributes:
        name: Its name, in logs and for `Maintenance.run_soon`.
        every_seconds: Seconds between two runs.
        run: Does it once.
    """

    name: str
    every_seconds: float
    run: Callable[[], object]


class Maintenance:
    """Runs the duties that are due; any number of processes may run them side by side.

    Invariants: a duty that fails is logged and run again at its next time; the others continue. A lease is
    never judged by a process that could not have seen its renewal.
    """

    def __init__(
        self,
        services: Services,
        *,
        grace_seconds: float = _GRACE_SECONDS,
        standstill_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Prepare the duties; `standstill_seconds` without a tick count as an outage."""
        self._services = services
        self._grace_seconds = grace_seconds
        self._standstill_seconds = standstill_seconds
        self.duties = [
            Duty("reap_neighbours", 1.0, self._reap_neighbours),
            Duty("reap_hosts", LEASE_RENEWAL_SECONDS, self._reap_hosts),
            Duty("admit", 1.0, self._admit),
            Duty("sweep", 5.0, self._sweep),
            Duty("purge", 60.0, self._purge),
            Duty("garbage_collect", 60.0, BlobGarbageCollector(services).run),
        ]
        #: What kept workers from taking tickets at the last sweep.
        self.queue_error: str | None = None
        self._told_error: str | None = None
        self._due: dict[str, float] = {}
        self._reap_from = 0.0
        self._ticked_at = math.inf

    def add(self, duty: Duty) -> None:
        """Add a duty of this process; it runs before the others."""
        self.duties.insert(0, duty)

    def run_soon(self, name: str) -> None:
        """Make a duty due at the next tick."""
        self._due.pop(name, None)

    def tick(self) -> None:
        """Run the duties that are due."""
        if time.monotonic() - self._ticked_at > self._standstill_seconds:
            self._grace_after_outage()
        for duty in self.duties:
            now = time.monotonic()
            if now < self._due.get(duty.name, 0.0):
                continue
            self._due[duty.name] = now + duty.every_seconds
            try:
                duty.run()
            except EmberqError as exc:
                log.warning("duty_failed", duty=duty.name, error_code=exc.code, error=exc.message)
                if isinstance(exc, DatabaseUnavailable):
                    self._grace_after_outage()
        self._ticked_at = time.monotonic()

    def run(self, stop: threading.Event, *, every_seconds: float = 0.5) -> None:
        """Tick until `stop` is set; the body of the API's maintenance thread."""
        while not stop.wait(every_seconds):
            try:
                self.tick()
            except Exception as exc:
                log.exception("maintenance_failed", error=type(exc).__name__)

    def _admit(self) -> None:
        admit(self._services, job_timeout_seconds=get_worker_config().settings.job_timeout)

    def _sweep(self) -> None:
        self.queue_error = queue_error(self._services.redis())
        if self.queue_error != self._told_error:
            log.warning("queue_state_changed", queue_error=self.queue_error)
            self._told_error = self.queue_error
        sweep(self._services, job_timeout_seconds=get_worker_config().settings.job_timeout)

    def _reap_neighbours(self) -> None:
        reap_dead_neighbours(self._services, machine_identity())

    def _grace_after_outage(self) -> None:
        self._reap_from = time.monotonic() + self._grace_seconds

    def _reap_hosts(self) -> None:
        if time.monotonic() < self._reap_from:
            return
        reap_expired_hosts(self._services, retry_delay_seconds=get_worker_config().settings.job_retry_delay)

    def _purge(self) -> None:
        settings = get_worker_config().settings
        purge_ended_jobs(self._services, retention_seconds=settings.job_retention)
        purge_audit_log(self._services, retention_seconds=settings.audit_retention)
        purge_extractions(self._services, ttl_seconds=settings.extraction_ttl)
        purge_vectors(
            self._services, ttl_seconds=settings.embedding_cache_ttl, max_rows=settings.embedding_cache_rows
        )
