"""Counts of jobs and files, for dashboards and metrics."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from emberq.store.jobs.fence import in_state
from emberq.store.jobs.queries import count_jobs
from emberq.store.schema.job_states import ENDED_STATES, JobState
from emberq.store.schema.tables import ChunkRow, Collection, CollectionKind, FileRow, Job, PastOutcome

#: Latest completed jobs whose mean length is taken as the length of the waiting jobs.
_SAMPLE_JOBS = 200


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of one tenant, or of all tenants.

    Attributes:
        jobs: Jobs by state.
        collections: Number of collections, without those of extractions.
        files: Number of files in them that are not deleted.
        chunks: Number of searchable chunks.
        queue_oldest_seconds: Age of the oldest waiting job, 0 if none waits.
        backlog_seconds: Seconds that the live workers, at least one, need for all waiting jobs.
    """

    jobs: dict[str, int]
    collections: int
    files: int
    chunks: int
    queue_oldest_seconds: float
    backlog_seconds: float


def read_stats(connection: Connection, tenant: str | None = None) -> Stats:
    """Count the jobs, collections, files and chunks of a tenant, or of all tenants."""

    def count(table: type[Collection | FileRow | ChunkRow], *conditions: object) -> int:
        statement = select(func.count()).select_from(table).where(*conditions)  # type: ignore[arg-type]
        if tenant is not None:
            statement = statement.where(table.tenant == tenant)
        return connection.execute(statement).scalar_one()

    queue = read_queue(connection, tenant)
    return Stats(
        jobs=count_jobs(connection, tenant),
        collections=count(Collection, Collection.kind == CollectionKind.DOCUMENTS),
        files=count(FileRow, FileRow.deleted_at.is_(None), FileRow.used_at.is_(None)),
        chunks=count(ChunkRow),
        queue_oldest_seconds=queue.oldest_seconds,
        backlog_seconds=queue.backlog_seconds,
    )


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The jobs that have not ended, and the time that the live workers need for the waiting ones.

    Attributes:
        depth: Jobs that have not ended, by state.
        oldest_seconds: Age of the oldest waiting job, 0 if none waits.
        job_seconds: Mean length of the tenant's latest completed jobs, 0 if there are none.
        workers: Worker slots with a valid lease.
        backlog_seconds: Seconds that the live workers, at least one, need for all waiting jobs.
    """

    depth: dict[str, int]
    oldest_seconds: float
    job_seconds: float
    workers: int
    backlog_seconds: float


#: Each part reads a partial index over jobs that have not ended, or the newest end of `jobs_ended`.
_QUEUE = text("""
WITH live AS (
    SELECT state, count(*) AS jobs, min(created_at) AS oldest FROM (
        SELECT state, created_at FROM jobs
        WHERE state = 'pending' AND not_before IS NULL AND (:tenant = '' OR tenant = :tenant)
        UNION ALL
        SELECT state, created_at FROM jobs
        WHERE state = 'pending' AND not_before IS NOT NULL AND (:tenant = '' OR tenant = :tenant)
        UNION ALL
        SELECT state, created_at FROM jobs
        WHERE state IN ('queued', 'processing') AND (:tenant = '' OR tenant = :tenant)
    ) AS unfinished
    GROUP BY state
),
latest AS (
    -- Of one tenant by the index of its listing, as it may have few of the latest jobs.
    (SELECT extract(epoch FROM ended_at - started_at) AS seconds FROM jobs
     WHERE :tenant <> '' AND tenant = :tenant AND state = 'completed'
     ORDER BY created_at DESC, id DESC LIMIT :sample)
    UNION ALL
    (SELECT extract(epoch FROM ended_at - started_at) FROM jobs
     WHERE :tenant = '' AND ended_at IS NOT NULL AND state = 'completed'
     ORDER BY ended_at DESC LIMIT :sample)
)
SELECT (SELECT coalesce(jsonb_object_agg(state, jobs), '{}') FROM live) AS depth,
       (SELECT coalesce(extract(epoch FROM now() - min(oldest)), 0) FROM live WHERE state <> 'processing')
           AS oldest_seconds,
       (SELECT coalesce(avg(seconds), 0) FROM latest) AS job_seconds,
       (SELECT coalesce(sum(workers), 0) FROM hosts WHERE lease_until >= now()) AS workers
""")


def read_queue(connection: Connection, tenant: str | None = None) -> QueueStats:
    """Measure the queue of a tenant, or of all tenants; workers are counted in any case."""
    row = connection.execute(_QUEUE, {"tenant": tenant or "", "sample": _SAMPLE_JOBS}).one()
    states = (JobState.PENDING, JobState.QUEUED, JobState.PROCESSING)
    depth = {state.value: int(row.depth.get(state, 0)) for state in states}
    waiting = depth[JobState.PENDING] + depth[JobState.QUEUED]
    return QueueStats(
        depth=depth,
        oldest_seconds=float(row.oldest_seconds),
        job_seconds=float(row.job_seconds),
        workers=int(row.workers),
        backlog_seconds=waiting * float(row.job_seconds) / max(1, int(row.workers)),
    )


def count_outcomes(connection: Connection) -> list[tuple[str, str, int]]:
    """Return `(state, error_code, jobs)` for all outcomes so far; the numbers only grow.

    The code is empty if there was no error. A retried job counts once for each of its ends, and a purged job
    still counts.
    """
    present = select(
        Job.state, func.coalesce(Job.error_code, "").label("error_code"), func.count().label("jobs")
    )
    past = select(PastOutcome.state, PastOutcome.error_code, PastOutcome.jobs)
    both = (
        present.where(in_state(*ENDED_STATES)).group_by(Job.state, Job.error_code).union_all(past).subquery()
    )
    rows = connection.execute(
        select(both.c.state, both.c.error_code, func.sum(both.c.jobs)).group_by(
            both.c.state, both.c.error_code
        )
    )
    return [(state, code, int(number)) for state, code, number in rows]
