"""Retry and cancel of many jobs at once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, select, true

from emberq.store.jobs.breaker import PROVIDER_CODES, probe_now
from emberq.store.jobs.queries import cancel_where, retry_where
from emberq.store.schema.job_states import LIVE_STATES, JobState
from emberq.store.schema.tables import Job


@dataclass(frozen=True, slots=True)
class CancelledJobs:
    """The result of a cancellation of many jobs.

    Attributes:
        cancelled: Number of waiting jobs that were cancelled.
        stopping: Number of running jobs whose cancellation was requested.
        tickets: The tickets of the running jobs.
    """

    cancelled: int
    stopping: int
    tickets: tuple[str, ...] = ()


def retry_jobs(
    connection: Connection,
    tenant: str,
    *,
    error_code: str | None = None,
    collection_id: uuid.UUID | None = None,
    quarantined: bool = False,
) -> int:
    """Retry failed jobs, attempts counted from zero, and return how many.

    An error of the embedding provider also makes the next probe of the tenant's circuit breaker due.

    Args:
        connection: The transaction.
        tenant: The tenant of the jobs.
        error_code: Only jobs that ended with this error.
        collection_id: Only jobs of this collection.
        quarantined: Only quarantined jobs.
    """
    if error_code in PROVIDER_CODES:
        probe_now(connection, tenant)
    which = and_(Job.tenant == tenant, _in_collection(collection_id))
    if error_code is not None:
        which = and_(which, Job.error_code == error_code)
    else:
        # Cancelled jobs are retried only by their error code.
        which = and_(which, Job.state == JobState.FAILED)
    if quarantined:
        which = and_(which, Job.quarantined)
    return retry_where(connection, which)


def cancel_jobs(
    connection: Connection, tenant: str, *, collection_id: uuid.UUID | None = None
) -> CancelledJobs:
    """Cancel the jobs of a tenant or a collection: waiting ones at once, running ones by a request."""
    which = and_(Job.tenant == tenant, _in_collection(collection_id))
    before = count_active_jobs(connection, tenant, collection_id=collection_id)
    tickets = cancel_where(connection, which, reason="The jobs were cancelled together.")
    return CancelledJobs(before.cancelled, len(tickets), tuple(tickets))


def count_active_jobs(
    connection: Connection, tenant: str, *, collection_id: uuid.UUID | None = None
) -> CancelledJobs:
    """Count the jobs that `cancel_jobs` would cancel and stop."""
    waiting, running = connection.execute(
        select(
            func.count().filter(Job.state != JobState.PROCESSING),
            func.count().filter(Job.state == JobState.PROCESSING, Job.cancel_requested_at.is_(None)),
        ).where(
            Job.tenant == tenant,
            Job.state.in_(LIVE_STATES),
            _in_collection(collection_id),
        )
    ).one()
    return CancelledJobs(waiting, running)


def _in_collection(collection_id: uuid.UUID | None) -> ColumnElement[bool]:
    return true() if collection_id is None else Job.collection_id == collection_id
