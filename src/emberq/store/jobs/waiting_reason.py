"""Why a job waits, and an estimate of how many jobs come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Label, literal_column, text

from emberq.store.database import all_tenants
from emberq.store.jobs.fair_share import STANDING_PARAMETERS, after_standing
from emberq.store.schema.job_states import JobState

#: Jobs counted at most: `behind_10000` means so many or more, and a page costs milliseconds at any length.
_COUNT_LIMIT = 10_000


class WaitingReason(StrEnum):
    """Why a job waits: the first reason that applies."""

    PAUSED = "paused"
    BACKOFF = "backoff"
    NO_WORKER = "no_worker"
    QUEUE_BROKEN = "queue_broken"
    TENANT_CAP = "tenant_cap"
    #: Shown as `behind_N`: about N jobs come first.
    BEHIND = "behind"


_QUEUED = text("SELECT id FROM jobs WHERE state = 'queued' ORDER BY queued_at, seq")

#: For each ready job of one tenant, about how many ready jobs are admitted before it.
#:
#: own     the tenant's ready jobs by priority and age, numbered from 0; the turns of bulk jobs are ignored
#: others  the other tenants that may start jobs now, with the number of their ready jobs
#:
#: Job n of another tenant begins at `begins + n / weight` on the virtual clock; the jobs that begin before
#: this one are counted, ties are not.
_ESTIMATE = after_standing("""
, own AS (
    SELECT id, row_number() OVER (ORDER BY priority, created_at, id) - 1 AS number
    FROM (
        SELECT id, priority, created_at
        FROM (SELECT tenant, collection_id FROM open_flow WHERE tenant = :tenant) AS flow
        JOIN jobs USING (tenant, collection_id)
        WHERE state = 'pending' AND not_before IS NULL
        ORDER BY priority, created_at, id LIMIT :most
    ) AS first_ones
),
others AS MATERIALIZED (
    SELECT begins, weight, (
        SELECT count(*) FROM (
            SELECT 1 FROM (SELECT collection_id FROM open_flow WHERE tenant = standing.tenant) AS flow
            JOIN jobs USING (collection_id)
            WHERE jobs.tenant = standing.tenant AND state = 'pending' AND not_before IS NULL LIMIT :most
        ) AS counted
    ) AS jobs
    FROM standing
    WHERE tenant <> :tenant AND retry_at IS NULL AND (cap = 0 OR busy < cap)
)
SELECT own.id, own.number + coalesce((
    SELECT sum(least(jobs, greatest(0, ceil(
        (standing.begins + own.number / standing.weight - others.begins) * others.weight))))
    FROM others
), 0) AS ahead
FROM own CROSS JOIN standing
WHERE standing.tenant = :tenant AND own.id = ANY(:ids)
""")

#: The waiting reason of a row of `jobs`, NULL if the job does not wait.
reason_column: Label[str | None] = literal_column("""CASE
    WHEN jobs.state NOT IN ('pending', 'queued') THEN NULL
    WHEN jobs.state = 'pending' AND EXISTS (
        SELECT 1 FROM pauses
        WHERE scope = 'queue' OR (scope = 'tenant' AND pauses.tenant = jobs.tenant)
           OR (scope = 'collection' AND pauses.collection_id = jobs.collection_id)
    ) THEN 'paused'
    WHEN jobs.state = 'pending' AND (jobs.not_before > now() OR EXISTS (
        SELECT 1 FROM breakers WHERE breakers.tenant = jobs.tenant AND retry_at IS NOT NULL
    )) THEN 'backoff'
    WHEN NOT EXISTS (SELECT 1 FROM hosts WHERE lease_until >= now() AND workers > 0) THEN 'no_worker'
    WHEN NOT EXISTS (
        SELECT 1 FROM hosts WHERE lease_until >= now() AND workers > 0 AND queue_error IS NULL
    ) THEN 'queue_broken'
    WHEN jobs.state = 'pending' AND (
        -- The tenant's own cap overrides the default one; 0 means no cap.
        SELECT CAST(value ->> 'value' AS bigint) BETWEEN 1 AND (
            SELECT count(*) FROM jobs AS busy
            WHERE busy.state IN ('queued', 'processing') AND busy.tenant = jobs.tenant)
        FROM settings
        WHERE key = 'tenant_max_processing' AND settings.tenant IN ('', jobs.tenant)
        ORDER BY settings.tenant DESC LIMIT 1
    ) THEN 'tenant_cap'
    ELSE 'behind' END""").label("waiting_reason")


def estimate_positions(connection: Connection, rows: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Return job rows of one tenant with the reason `behind` replaced by `behind_N`, N being an estimate."""
    jobs = [dict(row) for row in rows]
    behind = [job for job in jobs if job["waiting_reason"] == WaitingReason.BEHIND]
    if not behind:
        return jobs
    # Jobs of other tenants come first, too: their number is shown, and nothing else of them.
    with all_tenants(connection):
        queued = connection.execute(_QUEUED).scalars().all()
        ahead = {job_id: number for number, job_id in enumerate(queued)}
        ready = [job for job in behind if job["state"] == JobState.PENDING]
        if ready:
            ids = [job["id"] for job in ready]
            parameters = {"tenant": ready[0]["tenant"], "ids": ids, "most": _COUNT_LIMIT}
            estimated = connection.execute(_ESTIMATE, {**STANDING_PARAMETERS, **parameters})
            ahead |= {row.id: len(queued) + int(row.ahead) for row in estimated}
    for job in behind:
        # A job whose delay has just ended is not among the ready ones yet, but it is old.
        default = _COUNT_LIMIT if job["state"] == JobState.PENDING and job["not_before"] is None else 0
        count = min(ahead.get(job["id"], default), _COUNT_LIMIT)
        job["waiting_reason"] = f"{WaitingReason.BEHIND}_{count}"
    return jobs
