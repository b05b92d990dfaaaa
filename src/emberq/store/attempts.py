"""One attempt at a job: claim, progress, give back, fail, always under the fencing token."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update

from emberq.errors import Cancelled, EmberqError, FileError, Quarantined, WorkerLost
from emberq.store.breaker import hold_back, may_hold_back, note_failure
from emberq.store.tables import (
    Collection,
    FileRow,
    FileVersion,
    Job,
    JobState,
    SettingChange,
    fence_sequence,
    job_sequence,
)

__all__ = [
    "Attempt",
    "LeaseLost",
    "claim_job",
    "fail_attempt",
    "is_completed",
    "queued_jobs",
    "record_progress",
]

#: Longest time between two attempts, whatever the doubling says.
_MAX_RETRY_DELAY_SECONDS = 3600.0


class LeaseLost(EmberqError):
    """The job was given to somebody else, cancelled or deleted while this attempt ran."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed job: everything its pipeline needs, read once.

    Attributes:
        job_id: The job.
        tenant: Whose it is.
        collection_id: Where its chunks go.
        embedding_model: The collection's model.
        generation: The index generation its chunks belong to.
        file_id: The file.
        file_name: Its name, for messages.
        version: The file version to process.
        blob: sha256 of the bytes.
        attempt: 1 for the first delivery.
        max_attempts: Deliveries before quarantine.
        fence: The fencing token of this claim.
        config_version: The configuration the attempt is pinned to.
        traceparent: W3C trace context of the upload, if it had one.
    """

    job_id: uuid.UUID
    tenant: str
    collection_id: uuid.UUID
    embedding_model: str
    generation: int
    file_id: uuid.UUID
    file_name: str
    version: int
    blob: str
    attempt: int
    max_attempts: int
    fence: int
    config_version: int
    traceparent: str | None = None


def _changed() -> dict[str, Any]:
    return {"seq": job_sequence.next_value()}


def queued_jobs(
    connection: Connection, *, older_than_seconds: float, limit: int
) -> list[tuple[uuid.UUID, str]]:
    """Return queued jobs that have waited for a claim for so long, each with its ticket."""
    rows = connection.execute(
        select(Job.id, Job.ticket)
        .where(
            Job.state == JobState.QUEUED, Job.queued_at < func.now() - timedelta(seconds=older_than_seconds)
        )
        .order_by(Job.queued_at)
        .limit(limit)
    )
    return [(row.id, str(row.ticket)) for row in rows]


def claim_job(
    connection: Connection, job_id: uuid.UUID, *, ticket: str, worker: str, host_id: uuid.UUID | None
) -> Attempt | None:
    """Take a queued job: one more attempt, a new fencing token, the configuration version pinned.

    Returns:
        The attempt, or nothing if the ticket is stale: its job was claimed, ended or cancelled.
    """
    version = select(func.coalesce(func.max(SettingChange.version), 0)).scalar_subquery()
    row = (
        connection.execute(
            update(Job)
            .where(
                Job.id == job_id,
                Job.state == JobState.QUEUED,
                Job.ticket == ticket,
                FileRow.id == Job.file_id,
                FileVersion.file_id == Job.file_id,
                FileVersion.version == Job.version,
                Collection.id == Job.collection_id,
            )
            .values(
                state=JobState.PROCESSING,
                attempt=Job.attempt + 1,
                fence=fence_sequence.next_value(),
                config_version=version,
                worker=worker,
                host_id=host_id,
                stage=None,
                progress_done=0,
                progress_total=0,
                timings={},
                started_at=func.now(),
                progress_at=func.now(),
                **_changed(),
            )
            .returning(
                Job.id.label("job_id"),
                Job.tenant,
                Job.collection_id,
                Collection.embedding_model,
                Collection.generation,
                Job.file_id,
                FileRow.name.label("file_name"),
                Job.version,
                FileVersion.blob,
                Job.attempt,
                Job.max_attempts,
                Job.fence,
                Job.config_version,
                Job.traceparent,
            )
        )
        .mappings()
        .one_or_none()
    )
    return Attempt(**row) if row is not None else None


def is_completed(connection: Connection, attempt: Attempt) -> bool:
    """Tell whether this very attempt completed its job, as when the answer to its commit was lost."""
    row = connection.execute(
        select(Job.id).where(
            Job.id == attempt.job_id, Job.fence == attempt.fence, Job.state == JobState.COMPLETED
        )
    ).one_or_none()
    return row is not None


def record_progress(
    connection: Connection, attempt: Attempt, *, stage: str, done: int, total: int, timings: dict[str, float]
) -> None:
    """Write how far the attempt has come.

    Raises:
        Cancelled: If somebody asked for the job to stop.
        LeaseLost: If the job is no longer this attempt's.
    """
    row = connection.execute(
        update(Job)
        .where(Job.id == attempt.job_id, Job.fence == attempt.fence, Job.state == JobState.PROCESSING)
        .values(
            stage=stage,
            progress_done=done,
            progress_total=total,
            progress_at=func.now(),
            timings=timings,
            **_changed(),
        )
        .returning(Job.cancel_requested_at)
    ).one_or_none()
    if row is None:
        raise LeaseLost
    if row.cancel_requested_at is not None:
        raise Cancelled


def fail_attempt(
    connection: Connection,
    job_id: uuid.UUID,
    error: EmberqError,
    *,
    fence: int | None = None,
    ticket: str | None = None,
    retry_delay_seconds: float,
    stage: str | None = None,
    detail: str | None = None,
) -> str | None:
    """End an attempt: back to `pending` if another one may help, otherwise `failed` or `cancelled`.

    Args:
        connection: The transaction.
        job_id: The job.
        error: Why the attempt ended.
        fence: The token of the attempt; a newer claim makes this call do nothing.
        ticket: Names the attempt in place of the token, for those who only saw the ticket.
        retry_delay_seconds: Pause before the second attempt; doubles with each further one. A lost
            worker costs no pause.
        stage: Where it happened; the last stage written if left out.
        detail: More for whoever looks into it, such as a traceback.

    Returns:
        The job's new state, or nothing if it was no longer this attempt's.
    """
    which = Job.fence == fence if fence is not None else Job.ticket == ticket
    job = connection.execute(
        select(Job.tenant, Job.state, Job.attempt, Job.max_attempts, Job.stage, Job.cancel_requested_at)
        .where(Job.id == job_id, which, Job.state.in_([JobState.QUEUED, JobState.PROCESSING]))
        .with_for_update()
    ).one_or_none()
    if job is None:
        return None
    if job.state == JobState.QUEUED:
        # The worker was lost before it claimed the job: nothing was tried, so nothing is counted.
        connection.execute(update(Job).where(Job.id == job_id).values(state=JobState.PENDING, **_changed()))
        return JobState.PENDING.value
    values: dict[str, Any] = {"worker": None, "host_id": None, **_changed()}
    error_code = error.code
    record = {**error.as_dict(), "stage": stage or job.stage, "attempt": job.attempt}
    if detail:
        record["detail"] = detail
    if job.cancel_requested_at is not None or isinstance(error, Cancelled):
        record = {**Cancelled().as_dict(), "stage": stage or job.stage, "attempt": job.attempt}
        error_code = Cancelled.code
        values |= {"state": JobState.CANCELLED, "ended_at": func.now()}
    elif (probe_at := note_failure(connection, job.tenant, error)) and may_hold_back(
        error, attempt=job.attempt, max_attempts=job.max_attempts
    ):
        values |= hold_back(error, attempt=job.attempt, probe_at=probe_at)
    elif error.retryable and not isinstance(error, FileError) and job.attempt < job.max_attempts:
        delay = 0.0 if isinstance(error, WorkerLost) else retry_delay_seconds * 2 ** (job.attempt - 1)
        delay = min(delay, _MAX_RETRY_DELAY_SECONDS)
        values |= {"state": JobState.PENDING, "not_before": func.now() + timedelta(seconds=delay)}
    else:
        values |= {"state": JobState.FAILED, "ended_at": func.now()}
        if isinstance(error, WorkerLost):
            record |= Quarantined(
                f"The file ended its worker {job.attempt} times and was set aside; last: {error.message}"
            ).as_dict()
            error_code = Quarantined.code
            values["quarantined"] = True
    at = connection.execute(select(func.now())).scalar_one()
    record["at"] = at.isoformat()
    connection.execute(
        update(Job).where(Job.id == job_id).values(error=record, error_code=error_code, **values)
    )
    return str(values["state"])
