"""Counts for dashboards and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from emberq.store.jobs import count_jobs
from emberq.store.tables import ChunkRow, Collection, FileRow, Job, JobState

__all__ = ["Stats", "count_outcomes", "read_stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """What there is.

    Attributes:
        jobs: Jobs by state.
        collections: Number of collections.
        files: Number of files that are not deleted.
        chunks: Number of searchable chunks.
        queue_oldest_seconds: Age of the job that has waited longest, 0 if none waits.
    """

    jobs: dict[str, int]
    collections: int
    files: int
    chunks: int
    queue_oldest_seconds: float


def read_stats(connection: Connection, tenant: str | None = None) -> Stats:
    """Count a tenant's things, or everybody's."""

    def count(table: type[Collection | FileRow | ChunkRow], *conditions: object) -> int:
        statement = select(func.count()).select_from(table).where(*conditions)  # type: ignore[arg-type]
        if tenant is not None:
            statement = statement.where(table.tenant == tenant)
        return connection.execute(statement).scalar_one()

    oldest = select(func.min(Job.created_at)).where(Job.state.in_([JobState.PENDING, JobState.QUEUED]))
    if tenant is not None:
        oldest = oldest.where(Job.tenant == tenant)
    age = connection.execute(
        select(func.coalesce(func.extract("epoch", func.now() - oldest.scalar_subquery()), 0))
    ).scalar_one()
    return Stats(
        jobs=count_jobs(connection, tenant),
        collections=count(Collection),
        files=count(FileRow, FileRow.deleted_at.is_(None)),
        chunks=count(ChunkRow),
        queue_oldest_seconds=float(age),
    )


def count_outcomes(connection: Connection) -> list[tuple[str, str, int]]:
    """Return `(state, error_code, jobs)` over all jobs; the code is empty where there was no error."""
    rows = connection.execute(
        select(Job.state, func.coalesce(Job.error_code, ""), func.count()).group_by(Job.state, Job.error_code)
    )
    return [(state, code, number) for state, code, number in rows]
