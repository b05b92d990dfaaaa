"""Retention: deletes records of ended jobs and deleted files in batches, never what readers see."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, select, true, tuple_

from emberq.store.jobs.fence import in_state
from emberq.store.schema.job_states import LIVE_STATES, PURGE
from emberq.store.schema.tables import FileRow, FileVersion, IdempotencyKey, Job

#: Rows deleted by one statement, so that a purge of millions keeps no lock for long.
BATCH_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Purged:
    """The rows that a purge deleted.

    Attributes:
        jobs: Records of ended jobs.
        files: Tombstones of deleted files, with their versions.
        keys: Idempotency keys.
    """

    jobs: int
    files: int
    keys: int


def purge_batch(connection: Connection, *, older_than_seconds: float, batch_rows: int = BATCH_ROWS) -> Purged:
    """Delete, for all tenants, a batch of each kind of rows that ended before `older_than_seconds`.

    Keys are deleted first: while a key exists, the job of its answer stays. There may be more to delete
    where one of the numbers is `batch_rows`.
    """
    before = _ago(older_than_seconds)
    old_keys = (
        select(IdempotencyKey.tenant, IdempotencyKey.key)
        .where(IdempotencyKey.created_at < before)
        .limit(batch_rows)
        .with_for_update(skip_locked=True)
        .cte()
    )
    keys = connection.execute(
        delete(IdempotencyKey).where(
            IdempotencyKey.tenant == old_keys.c.tenant, IdempotencyKey.key == old_keys.c.key
        )
    ).rowcount
    # A deleted file stays until its running jobs, whose cancellation is requested, have ended.
    lives = exists().where(Job.file_id == FileRow.id, in_state(*LIVE_STATES))
    answers = exists().where(IdempotencyKey.file_id == FileRow.id)
    old_files = (
        select(FileRow.id)
        .where(FileRow.deleted_at < before, ~lives, ~answers)
        .limit(batch_rows)
        .with_for_update(skip_locked=True)
        .cte()
    )
    files = connection.execute(delete(FileRow).where(FileRow.id == old_files.c.id)).rowcount
    jobs = purge_jobs(connection, None, older_than_seconds=older_than_seconds, batch_rows=batch_rows)
    return Purged(jobs=jobs, files=files, keys=keys)


def count_old_jobs(connection: Connection, tenant: str, *, older_than_seconds: float) -> int:
    """Count what `purge_jobs` would delete."""
    return connection.execute(
        select(func.count()).select_from(Job).where(_is_old(tenant, older_than_seconds))
    ).scalar_one()


def purge_jobs(
    connection: Connection, tenant: str | None, *, older_than_seconds: float, batch_rows: int = BATCH_ROWS
) -> int:
    """Delete a batch of the records of jobs that ended long ago, of one tenant or of all.

    The newest job of a file that is not deleted stays, because it shows the file's state, and so does a
    job that an Idempotency-Key answers with. The record of a superseded version is deleted with its job,
    so that its bytes can be garbage-collected.

    Returns:
        How many jobs were deleted; call again until it is 0.
    """
    old = (
        select(Job.id)
        .where(_is_old(tenant, older_than_seconds))
        .limit(batch_rows)
        .with_for_update(skip_locked=True)
        .cte()
    )
    gone = connection.execute(delete(Job).where(Job.id == old.c.id).returning(Job.file_id, Job.version)).all()
    superseded = exists().where(
        FileRow.id == FileVersion.file_id,
        FileRow.newest_version > FileVersion.version,
        FileRow.visible_version.is_distinct_from(FileVersion.version),
    )
    connection.execute(
        delete(FileVersion).where(
            tuple_(FileVersion.file_id, FileVersion.version).in_([tuple(row) for row in gone]), superseded
        )
    )
    return len(gone)


def _ago(seconds: float) -> ColumnElement[datetime]:
    return func.now() - timedelta(seconds=seconds)


def _is_old(tenant: str | None, older_than_seconds: float) -> ColumnElement[bool]:
    is_needed = exists().where(
        FileRow.id == Job.file_id, FileRow.deleted_at.is_(None), FileRow.newest_version == Job.version
    )
    is_answer = exists().where(IdempotencyKey.job_id == Job.id)
    return and_(
        Job.tenant == tenant if tenant is not None else true(),
        in_state(*PURGE.sources),
        Job.ended_at < _ago(older_than_seconds),
        ~is_needed,
        ~is_answer,
    )
