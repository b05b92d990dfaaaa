"""Reading jobs, and what people may do to them: cancel and retry."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, and_, case, func, or_, select, tuple_, update

from emberq.errors import Cancelled, JobNotFound
from emberq.store.tables import Collection, FileRow, Job, JobState, job_sequence

__all__ = [
    "ENDED_STATES",
    "cancel_job",
    "cancel_waiting_jobs",
    "changed_jobs",
    "count_jobs",
    "get_job",
    "list_jobs",
    "retry_failed_jobs",
    "retry_job",
]

#: States a job does not leave by itself.
ENDED_STATES = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)

#: What every change of a job row carries, so that event streams see it.
_changed = {"seq": job_sequence.next_value()}


def _select_jobs() -> Select[Any]:
    earlier = Job.__table__.alias("earlier")
    ahead = (
        select(func.count())
        .where(earlier.c.state == JobState.PENDING, earlier.c.created_at < Job.created_at)
        .scalar_subquery()
    )
    reason = case(
        (and_(Job.state == JobState.PENDING, Job.not_before > func.now()), "backoff"),
        (and_(Job.state == JobState.PENDING, ahead > 0), func.concat("behind_", ahead)),
        (Job.state.in_([JobState.PENDING, JobState.QUEUED]), "no_worker"),
    )
    return (
        select(
            *Job.__table__.c,
            FileRow.name.label("file_name"),
            Collection.name.label("collection"),
            reason.label("waiting_reason"),
        )
        .join(FileRow, FileRow.id == Job.file_id)
        .join(Collection, Collection.id == Job.collection_id)
    )


def get_job(connection: Connection, tenant: str, job_id: uuid.UUID) -> RowMapping:
    """Return one job with its file's and its collection's name and, while it waits, why.

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
    return found


def list_jobs(
    connection: Connection,
    tenant: str,
    *,
    state: str | None = None,
    error_code: str | None = None,
    after: tuple[Any, uuid.UUID] | None = None,
    limit: int = 50,
) -> list[RowMapping]:
    """Return a page of a tenant's jobs, newest first.

    Args:
        connection: The transaction.
        tenant: Whose jobs.
        state: Only jobs in this state.
        error_code: Only jobs that ended with this error.
        after: `(created_at, id)` of the last job of the page before.
        limit: Most jobs to return.
    """
    statement = _select_jobs().where(Job.tenant == tenant)
    if state is not None:
        statement = statement.where(Job.state == state)
    if error_code is not None:
        statement = statement.where(Job.error_code == error_code)
    if after is not None:
        statement = statement.where(tuple_(Job.created_at, Job.id) < after)
    page = statement.order_by(Job.created_at.desc(), Job.id.desc()).limit(limit)
    return list(connection.execute(page).mappings())


def changed_jobs(
    connection: Connection, tenant: str, *, after: int, job_id: uuid.UUID | None = None, limit: int = 500
) -> list[RowMapping]:
    """Return jobs that changed after sequence number `after`, in the order of their last change."""
    statement = _select_jobs().where(Job.tenant == tenant, Job.seq > after)
    if job_id is not None:
        statement = statement.where(Job.id == job_id)
    return list(connection.execute(statement.order_by(Job.seq).limit(limit)).mappings())


def count_jobs(connection: Connection, tenant: str | None = None) -> dict[str, int]:
    """Return the number of jobs in each state, of one tenant or of all."""
    statement = select(Job.state, func.count()).group_by(Job.state)
    if tenant is not None:
        statement = statement.where(Job.tenant == tenant)
    counts = dict.fromkeys((state.value for state in JobState), 0)
    counts.update((row[0], row[1]) for row in connection.execute(statement))
    return counts


def cancel_waiting_jobs(connection: Connection, file_id: uuid.UUID, *, reason: str) -> None:
    """Cancel a file's waiting jobs and ask its running one to stop."""
    _cancel(connection, Job.file_id == file_id, reason=reason)


def cancel_job(connection: Connection, tenant: str, job_id: uuid.UUID) -> RowMapping:
    """Cancel a job: at once while it waits, by a request to its worker while it runs.

    Returns:
        The job; `worker` and `ticket` tell whom to stop if its state is still `processing`.

    Raises:
        JobNotFound: If the tenant has no such job.
    """
    get_job(connection, tenant, job_id)
    _cancel(connection, Job.id == job_id, reason="The job was cancelled.")
    return get_job(connection, tenant, job_id)


def _cancel(connection: Connection, which: Any, *, reason: str) -> None:
    connection.execute(
        update(Job)
        .where(which, Job.state.in_([JobState.PENDING, JobState.QUEUED]))
        .values(
            state=JobState.CANCELLED,
            ended_at=func.now(),
            cancel_requested_at=func.now(),
            error=Cancelled(reason).as_dict(),
            error_code=Cancelled.code,
            **_changed,
        )
    )
    connection.execute(
        update(Job)
        .where(which, Job.state == JobState.PROCESSING, Job.cancel_requested_at.is_(None))
        .values(cancel_requested_at=func.now(), **_changed)
    )


def _retry(connection: Connection, which: Any) -> int:
    return connection.execute(
        update(Job)
        .where(
            which,
            or_(Job.state == JobState.FAILED, Job.state == JobState.CANCELLED),
            Job.file_id.in_(
                select(FileRow.id).where(FileRow.deleted_at.is_(None), FileRow.newest_version == Job.version)
            ),
        )
        .values(
            state=JobState.PENDING,
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
            **_changed,
        )
    ).rowcount


def retry_job(connection: Connection, tenant: str, job_id: uuid.UUID) -> RowMapping:
    """Send a failed or cancelled job through again, its attempts counted from zero.

    A job that is not over, or whose file has a newer version or is deleted, is left as it is.

    Raises:
        JobNotFound: If the tenant has no such job.
    """
    get_job(connection, tenant, job_id)
    _retry(connection, Job.id == job_id)
    return get_job(connection, tenant, job_id)


def retry_failed_jobs(connection: Connection, tenant: str, error_code: str) -> int:
    """Send all jobs that failed with an error code through again and return how many."""
    return _retry(connection, and_(Job.tenant == tenant, Job.error_code == error_code))
