"""Jobs as users see them: listing, changes, cancel and retry."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB

from emberq.errors import Cancelled, JobNotFound
from emberq.store.jobs.fence import in_state
from emberq.store.jobs.transitions import move
from emberq.store.jobs.waiting_reason import WaitingReason, estimate_positions, reason_column
from emberq.store.schema.job_states import (
    CANCEL,
    REQUEST_CANCEL,
    RETRY,
    WAITING_STATES,
    JobState,
)
from emberq.store.schema.tables import Collection, FileRow, FileVersion, Job

#: Characters of a job's id.
_ID_CHARS = 36


def _select_jobs() -> Select[Any]:
    return (
        select(
            *Job.__table__.c,
            FileRow.name.label("file_name"),
            Collection.name.label("collection"),
            FileVersion.warnings,
            reason_column,
        )
        .join(FileRow, FileRow.id == Job.file_id)
        .join(Collection, Collection.id == Job.collection_id)
        # A job may outlive its version: an Idempotency-Key answers with it.
        .outerjoin(FileVersion, (FileVersion.file_id == Job.file_id) & (FileVersion.version == Job.version))
    )


def get_job(connection: Connection, tenant: str, job_id: uuid.UUID) -> dict[str, Any]:
    """Return one job with the names of its file and its collection and its waiting reason.

    Raises:
        JobNotFound: If the tenant has no such job.
    """
    found = (
        connection.execute(_select_jobs().where(Job.tenant == tenant, Job.id == job_id))
        .mappings()
        .one_or_none()
    )
    if found is None:
        raise JobNotFound(f"There is no job {job_id}.")
    return estimate_positions(connection, [found])[0]


def list_jobs(
    connection: Connection,
    tenant: str,
    *,
    state: str | None = None,
    error_code: str | None = None,
    reason: str | None = None,
    stuck_seconds: float | None = None,
    after: tuple[Any, uuid.UUID] | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Return a page of a tenant's jobs, newest first.

    Args:
        connection: The transaction.
        tenant: The tenant of the jobs.
        state: Only jobs in this state.
        error_code: Only jobs whose last attempt ended with this error.
        reason: Only jobs with this error code, or with this waiting reason (a `WaitingReason`).
        stuck_seconds: Only jobs that run without progress, or are queued without a claim, for this long.
        after: `(created_at, id)` of the last job of the page before.
        limit: Most jobs to return.
    """
    statement = _select_jobs().where(Job.tenant == tenant)
    if state is not None:
        statement = statement.where(Job.state == state)
    if error_code is not None:
        statement = statement.where(Job.error_code == error_code)
    if reason is not None:
        waits = and_(in_state(*WAITING_STATES), reason_column.element == reason)
        statement = statement.where(waits if reason in set(WaitingReason) else Job.error_code == reason)
    if stuck_seconds is not None:
        since = func.now() - timedelta(seconds=stuck_seconds)
        statement = statement.where(
            or_(
                and_(Job.state == JobState.PROCESSING, Job.progress_at < since),
                and_(Job.state == JobState.QUEUED, Job.queued_at < since),
            )
        )
    if after is not None:
        statement = statement.where(tuple_(Job.created_at, Job.id) < after)
    page = statement.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    return estimate_positions(connection, connection.execute(page).mappings().all())


def job_changes(
    connection: Connection,
    tenant: str,
    *,
    after: int = -1,
    job_ids: AbstractSet[uuid.UUID] | None = None,
    limit: int | None = None,
) -> dict[int, uuid.UUID]:
    """Return the sequence number of the last change of each job, with the job, lowest first.

    Args:
        connection: The transaction.
        tenant: The tenant of the jobs.
        after: Only higher numbers.
        job_ids: Only these jobs.
        limit: Most jobs to return.
    """
    statement = select(Job.seq, Job.id).where(Job.tenant == tenant, Job.seq > after)
    if job_ids is not None:
        statement = statement.where(Job.id.in_(job_ids))
    return {row.seq: row.id for row in connection.execute(statement.order_by(Job.seq).limit(limit))}


def jobs_at(connection: Connection, tenant: str, seqs: AbstractSet[int]) -> list[dict[str, Any]]:
    """Return the jobs whose last change has one of these sequence numbers."""
    found = connection.execute(_select_jobs().where(Job.tenant == tenant, Job.seq.in_(seqs)))
    return estimate_positions(connection, found.mappings().all())


def own_tickets(connection: Connection, tenant: str, tickets: Sequence[str]) -> set[str]:
    """Return those of the tickets that are of a tenant's jobs; a ticket begins with the id of its job."""
    ids: dict[uuid.UUID, str] = {}
    for ticket in tickets:
        with suppress(ValueError):
            ids[uuid.UUID(ticket[:_ID_CHARS])] = ticket
    found = select(Job.id).where(Job.tenant == tenant, Job.id == func.any(list(ids)))
    return {ids[job_id] for job_id in connection.execute(found).scalars()}


def count_jobs(connection: Connection, tenant: str | None = None) -> dict[str, int]:
    """Return the number of jobs in each state, of one tenant or of all tenants."""
    statement = select(Job.state, func.count()).group_by(Job.state)
    if tenant is not None:
        statement = statement.where(Job.tenant == tenant)
    counts = dict.fromkeys((state.value for state in JobState), 0)
    counts.update((row[0], row[1]) for row in connection.execute(statement))
    return counts


def cancel_jobs_of_file(connection: Connection, file_id: uuid.UUID, *, reason: str) -> None:
    """Cancel a file's waiting jobs and request the cancellation of its running one."""
    cancel_where(connection, Job.file_id == file_id, reason=reason)


def cancel_job(connection: Connection, tenant: str, job_id: uuid.UUID) -> dict[str, Any]:
    """Cancel a job: at once while it waits, by a request to its worker while it runs.

    Returns:
        The job; if its state is still `processing`, `ticket` is the RQ job to stop.

    Raises:
        JobNotFound: If the tenant has no such job.
    """
    get_job(connection, tenant, job_id)
    cancel_where(connection, Job.id == job_id, reason="The job was cancelled.")
    return get_job(connection, tenant, job_id)


def cancel_where(connection: Connection, which: ColumnElement[bool], *, reason: str) -> list[str]:
    """Cancel the waiting jobs that match a condition, and request the cancellation of the running ones.

    Returns:
        The tickets of the running jobs.
    """
    runs = in_state(*REQUEST_CANCEL.sources)
    cancelled = Cancelled(reason)
    # One statement: an attempt may begin or end between two.
    stopped = connection.execute(
        move(CANCEL, REQUEST_CANCEL)
        .where(which)
        .values(
            cancel_requested_at=func.now(),
            ended_at=case((runs, Job.ended_at), else_=func.now()),
            error=case((runs, Job.error), else_=literal(cancelled.as_dict(), JSONB)),
            error_code=case((runs, Job.error_code), else_=cancelled.code),
        )
        .returning(Job.state, Job.ticket)
    )
    return [row.ticket for row in stopped if row.state == JobState.PROCESSING]


def retry_where(connection: Connection, which: ColumnElement[bool]) -> int:
    """Retry the failed and cancelled jobs that match a condition, and return how many.

    A job whose file has a newer version or is deleted is left as it is.
    """
    files = select(Job.file_id).where(which, in_state(*RETRY.sources))
    # Locked against deletion and replacement until the commit: neither may miss the retried job.
    connection.execute(
        select(FileRow.id).where(FileRow.id.in_(files)).order_by(FileRow.id).with_for_update(read=True)
    )
    return connection.execute(
        move(RETRY)
        .where(which)
        .values(
            attempt=0,
            quarantined=False,
            cancel_requested_at=None,
            not_before=None,
            error=None,
            error_code=None,
            stage=None,
            progress_done=0,
            progress_total=0,
            ended_at=None,
        )
    ).rowcount


def retry_job(connection: Connection, tenant: str, job_id: uuid.UUID) -> dict[str, Any]:
    """Retry a failed or cancelled job, attempts counted from zero.

    A job that has not ended, or whose file has a newer version or is deleted, is left as it is.

    Raises:
        JobNotFound: If the tenant has no such job.
    """
    get_job(connection, tenant, job_id)
    retry_where(connection, Job.id == job_id)
    return get_job(connection, tenant, job_id)
