"""What people do to many jobs at once: retry, cancel, purge."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, select, true
from sqlalchemy.orm import aliased

from emberq.store.breaker import PROVIDER_CODES, probe_now
from emberq.store.jobs import ENDED_STATES, cancel_where, retry_where
from emberq.store.tables import FileRow, IdempotencyKey, Job, JobState

__all__ = ["CancelledJobs", "cancel_jobs", "count_active_jobs", "count_old_jobs", "purge_jobs", "retry_jobs"]

#: Jobs deleted by one statement, so that a purge of millions holds no lock for long.
_PURGE_LIMIT = 5000


@dataclass(frozen=True, slots=True)
class CancelledJobs:
    """What a cancellation did.

    Attributes:
        cancelled: Jobs that waited and are cancelled now.
        stopping: Jobs that run and were asked to stop.
        tickets: The tickets of the latter.
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
    """Send failed jobs through again, their attempts counted from zero, and return how many.

    Args:
        connection: The transaction.
        tenant: Whose jobs.
        error_code: Only jobs that ended with this error.
        collection_id: Only jobs of this collection.
        quarantined: Only jobs that were set aside because they ended their worker.
    """
    if error_code in PROVIDER_CODES:
        probe_now(connection, tenant)
    which = and_(Job.tenant == tenant, _in_collection(collection_id))
    if error_code is not None:
        which = and_(which, Job.error_code == error_code)
    else:
        # What somebody cancelled on purpose runs again only when it is named.
        which = and_(which, Job.state == JobState.FAILED)
    if quarantined:
        which = and_(which, Job.quarantined)
    return retry_where(connection, which)


def cancel_jobs(
    connection: Connection, tenant: str, *, collection_id: uuid.UUID | None = None
) -> CancelledJobs:
    """Cancel a tenant's jobs, or a collection's: those that wait at once, those that run by a request."""
    which = and_(Job.tenant == tenant, _in_collection(collection_id))
    before = count_active_jobs(connection, tenant, collection_id=collection_id)
    tickets = cancel_where(connection, which, reason="The jobs were cancelled together.")
    return CancelledJobs(before.cancelled, len(tickets), tuple(tickets))


def count_active_jobs(
    connection: Connection, tenant: str, *, collection_id: uuid.UUID | None = None
) -> CancelledJobs:
    """Count what `cancel_jobs` would cancel and stop."""
    waiting, running = connection.execute(
        select(
            func.count().filter(Job.state != JobState.PROCESSING),
            func.count().filter(Job.state == JobState.PROCESSING, Job.cancel_requested_at.is_(None)),
        ).where(
            Job.tenant == tenant,
            Job.state.in_([JobState.PENDING, JobState.QUEUED, JobState.PROCESSING]),
            _in_collection(collection_id),
        )
    ).one()
    return CancelledJobs(waiting, running)


def count_old_jobs(connection: Connection, tenant: str, *, older_than_seconds: float) -> int:
    """Count what `purge_jobs` would delete."""
    return connection.execute(
        select(func.count()).select_from(Job).where(_is_old(tenant, older_than_seconds))
    ).scalar_one()


def purge_jobs(connection: Connection, tenant: str, *, older_than_seconds: float) -> int:
    """Delete the records of jobs that ended long ago, some thousands at a time.

    The newest job of a file that is not deleted stays, because it tells how the file came to be what it
    is; so does one that an Idempotency-Key answers with.

    Returns:
        How many were deleted; call again until it is 0.
    """
    old = (
        select(Job.id)
        .where(_is_old(tenant, older_than_seconds))
        .limit(_PURGE_LIMIT)
        .with_for_update(skip_locked=True)
    )
    return connection.execute(delete(Job).where(Job.id.in_(old))).rowcount


def _is_old(tenant: str, older_than_seconds: float) -> ColumnElement[bool]:
    newer = aliased(Job)
    is_newest = ~exists().where(
        newer.file_id == Job.file_id,
        (newer.created_at > Job.created_at) | ((newer.created_at == Job.created_at) & (newer.id < Job.id)),
    )
    is_living = exists().where(FileRow.id == Job.file_id, FileRow.deleted_at.is_(None))
    is_answer = exists().where(IdempotencyKey.job_id == Job.id)
    return and_(
        Job.tenant == tenant,
        Job.state.in_(ENDED_STATES),
        Job.ended_at < func.now() - timedelta(seconds=older_than_seconds),
        ~and_(is_newest, is_living),
        ~is_answer,
    )


def _in_collection(collection_id: uuid.UUID | None) -> ColumnElement[bool]:
    return true() if collection_id is None else Job.collection_id == collection_id
