"""Admission: waiting jobs get tickets, a bounded number at a time."""

from __future__ import annotations

from sqlalchemy import func, select

from emberq.dispatch.tickets import ring
from emberq.store.attempts import admit_jobs
from emberq.store.services import Services
from emberq.store.tables import Job, JobState
from emberq.telemetry.logs import get_logger

__all__ = ["admit"]

log = get_logger(__name__)

#: Tickets that may wait in Redis at once; the rest waits in PostgreSQL, where order can still change.
_MAX_TICKETS = 64


def admit(services: Services, *, job_timeout_seconds: float) -> int:
    """Give tickets to the next waiting jobs and return how many got one.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; nothing was changed.
        RedisUnavailable: If Redis does not answer; the sweep rings for these jobs later.
    """
    with services.database.transaction() as connection:
        waiting = connection.execute(
            select(func.count()).select_from(Job).where(Job.state == JobState.QUEUED)
        ).scalar_one()
        room = _MAX_TICKETS - waiting
        tickets = admit_jobs(connection, limit=room) if room > 0 else []
    if tickets:
        ring(services.redis(), tickets, job_timeout_seconds=job_timeout_seconds)
        log.debug("jobs_admitted", jobs=len(tickets))
    return len(tickets)
