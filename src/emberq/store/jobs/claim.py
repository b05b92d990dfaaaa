"""The claim of a job and the progress of its attempt."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, func, select

from emberq.errors import Cancelled, EmberqError
from emberq.store.jobs.fence import in_state
from emberq.store.jobs.transitions import move
from emberq.store.schema.admin_tables import SettingChange
from emberq.store.schema.job_states import CLAIM, ENQUEUE_AGAIN, PROGRESS, JobState
from emberq.store.schema.tables import Collection, CollectionKind, FileRow, FileVersion, Job, fence_sequence


class LeaseLost(EmberqError):
    """The job was claimed again, cancelled or deleted while this attempt ran."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claimed job: everything that its pipeline needs, read once.

    Attributes:
        job_id: The job.
        tenant: Its tenant.
        collection_id: The collection of its chunks.
        embedding_model: The collection's model.
        index_version: The index version of its chunks.
        file_id: The file.
        file_name: Its name, for messages.
        version: The file version to process.
        blob: sha256 of the bytes.
        attempt: The number of the attempt; 1 is the first.
        max_attempts: Most attempts before the job fails.
        fence: The fencing token of this claim.
        config_version: The configuration version that the attempt is pinned to.
        traceparent: W3C trace context of the upload, if it had one.
        kind: The `CollectionKind` of the collection.
    """

    job_id: uuid.UUID
    tenant: str
    collection_id: uuid.UUID
    embedding_model: str
    index_version: int
    file_id: uuid.UUID
    file_name: str
    version: int
    blob: str
    attempt: int
    max_attempts: int
    fence: int
    config_version: int
    traceparent: str | None = None
    kind: str = CollectionKind.DOCUMENTS.value


def unclaimed_jobs(
    connection: Connection, *, older_than_seconds: float, limit: int
) -> list[tuple[uuid.UUID, str]]:
    """Return jobs that are queued for longer than `older_than_seconds`, each with its ticket."""
    rows = connection.execute(
        select(Job.id, Job.ticket)
        .where(
            in_state(*ENQUEUE_AGAIN.sources),
            Job.queued_at < func.now() - timedelta(seconds=older_than_seconds),
        )
        .order_by(Job.queued_at)
        .limit(limit)
    )
    return [(row.id, str(row.ticket)) for row in rows]


def claim_job(
    connection: Connection, job_id: uuid.UUID, *, ticket: str, worker: str, host_id: uuid.UUID | None
) -> Attempt | None:
    """Claim a queued job: count the attempt, issue a fencing token, pin the configuration version.

    Args:
        connection: The transaction.
        job_id: The job.
        ticket: The ticket that the worker popped.
        worker: The worker's name.
        host_id: The worker's host; nothing outside a supervised host.

    Returns:
        The attempt, or nothing if the ticket is stale: its job was claimed, ended or cancelled.
    """
    version = select(func.coalesce(func.max(SettingChange.version), 0)).scalar_subquery()
    row = (
        connection.execute(
            move(CLAIM, ticket=ticket)
            .where(
                Job.id == job_id,
                FileRow.id == Job.file_id,
                FileVersion.file_id == Job.file_id,
                FileVersion.version == Job.version,
                Collection.id == Job.collection_id,
            )
            .values(
                attempt=Job.attempt + 1,
                requeues=0,
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
            )
            .returning(
                Job.id.label("job_id"),
                Job.tenant,
                Job.collection_id,
                Collection.embedding_model,
                Collection.index_version,
                Job.file_id,
                FileRow.name.label("file_name"),
                Job.version,
                FileVersion.blob,
                Job.attempt,
                Job.max_attempts,
                Job.fence,
                Job.config_version,
                Job.traceparent,
                Collection.kind,
            )
        )
        .mappings()
        .one_or_none()
    )
    return Attempt(**row) if row is not None else None


def is_completed(connection: Connection, attempt: Attempt) -> bool:
    """Tell whether this attempt completed its job, as when the answer to its commit was lost."""
    row = connection.execute(
        select(Job.id).where(
            Job.id == attempt.job_id, Job.fence == attempt.fence, Job.state == JobState.COMPLETED
        )
    ).one_or_none()
    return row is not None


def record_progress(
    connection: Connection, attempt: Attempt, *, stage: str, done: int, total: int, timings: dict[str, float]
) -> None:
    """Write the progress of an attempt.

    Raises:
        Cancelled: If cancellation is requested.
        LeaseLost: If the job is not in this attempt any more.
    """
    row = connection.execute(
        move(PROGRESS, fence=attempt.fence)
        .where(Job.id == attempt.job_id)
        .values(
            stage=stage,
            progress_done=done,
            progress_total=total,
            progress_at=func.now(),
            timings=timings,
        )
        .returning(Job.cancel_requested_at)
    ).one_or_none()
    if row is None:
        raise LeaseLost
    if row.cancel_requested_at is not None:
        raise Cancelled
