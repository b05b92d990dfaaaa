"""The stages of an attempt: their times, and the progress that is recorded in PostgreSQL."""

from __future__ import annotations

import time

import structlog

from emberq.pipeline.outages import retry_during_outage
from emberq.store.jobs.claim import Attempt, record_progress
from emberq.store.services import Services
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Least seconds between two records of progress in one stage; people do not read faster.
_PROGRESS_SECONDS = 0.5


class Stages:
    """Times the stages of an attempt, and records progress twice a second and at each stage's start.

    Invariant: after `measure`, `timings` has the seconds so far of every stage that has started.
    """

    def __init__(self, services: Services, attempt: Attempt) -> None:
        """Start the clock; there is no stage yet."""
        self._services = services
        self._attempt = attempt
        self._recorded_at = 0.0
        self._started_at = time.monotonic()
        self.stage: str | None = None
        self.timings: dict[str, float] = {}

    def report(self, done: int, total: int, stage: str | None) -> None:
        """Take the values of a call of `progress()`.

        Raises:
            Cancelled: If the job was cancelled.
            LeaseLost: If the job is no longer this attempt's.
        """
        now = time.monotonic()
        is_new = stage is not None and stage != self.stage
        self.measure()
        if is_new:
            self.stage, self._started_at = stage, now
            structlog.contextvars.bind_contextvars(stage=stage)
            log.info("stage_started", total=total)
        if not is_new and now - self._recorded_at < _PROGRESS_SECONDS:
            return
        self._recorded_at = now
        self._record(done, total)

    def count(self) -> None:
        """Add the stages' times to the metrics; called once, at the attempt's end."""
        for stage, seconds in self.measure().items():
            metrics.observe_stage(stage, seconds=seconds)

    def measure(self) -> dict[str, float]:
        """Update the time of the running stage, and return the seconds of all stages."""
        if self.stage is not None:
            self.timings[self.stage] = round(time.monotonic() - self._started_at, 4)
        return self.timings

    @retry_during_outage()
    def _record(self, done: int, total: int) -> None:
        with self._services.database.tenant_transaction(self._attempt.tenant) as connection:
            record_progress(
                connection,
                self._attempt,
                stage=self.stage or "extracting",
                done=done,
                total=total,
                timings=self.timings,
            )
