"""Why a job waits, and how many others come first, by the same rules that admit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Label, literal_column, text

from emberq.store.jobs.fair_share import (
    BULK_PRIORITY,
    STANDING_PARAMETERS,
    Share,
    after_standing,
    jobs_ahead,
    place_in_tenant,
)
from emberq.store.schema.tables import JobState

__all__ = ["WaitingReason", "reason_column", "with_places"]

#: Jobs counted at most: `behind_10000` means so many or more, and a page costs milliseconds at any length.
_COUNT_LIMIT = 10_000


class WaitingReason(StrEnum):
    """Why a job waits; the first that holds is told."""

    PAUSED = "paused"
    BACKOFF = "backoff"
    NO_WORKER = "no_worker"
    TENANT_CAP = "tenant_cap"
    #: Shown as `behind_N`: N jobs come first.
    BEHIND = "behind"


_parameters: dict[str, object] = {**STANDING_PARAMETERS, "most": _COUNT_LIMIT}

_QUEUED = text("SELECT id FROM jobs WHERE state = 'queued' ORDER BY queued_at, seq")

#: Each tenant that may start jobs now, with what it has waiting, counted up to a limit.
_SHARES = after_standing("""
SELECT tenant, begins, weight, taken, priority, created_at,
       CAST(sum(interactive.jobs) AS bigint) AS interactive, CAST(sum(bulk.jobs) AS bigint) AS bulk
FROM standing JOIN (SELECT tenant, collection_id FROM open_flow) AS own USING (tenant)
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT 1 FROM jobs
        WHERE jobs.tenant = own.tenant AND jobs.collection_id = own.collection_id
          AND state = 'pending' AND not_before IS NULL AND jobs.priority < :bulk LIMIT :most) AS found
) AS interactive
CROSS JOIN LATERAL (
    SELECT count(*) AS jobs FROM (
        SELECT 1 FROM jobs
        WHERE jobs.tenant = own.tenant AND jobs.collection_id = own.collection_id
          AND state = 'pending' AND not_before IS NULL AND jobs.priority >= :bulk LIMIT :most) AS found
) AS bulk
WHERE retry_at IS NULL AND (cap = 0 OR busy < cap)
GROUP BY tenant, begins, weight, taken, priority, created_at
""")

#: For some jobs of one tenant, how many of its jobs of the same lane come first. The jobs are sorted and
#: only what lies between each and the one before it is counted, so that a page costs one pass at most.
_BEFORE_IN_LANE = after_standing("""
, shown AS (
    SELECT id, priority, created_at, priority >= :bulk AS is_bulk,
           lag(priority, 1, CASE WHEN priority >= :bulk THEN :bulk ELSE 0 END) OVER lane AS low_priority,
           lag(created_at, 1, '-infinity') OVER lane AS low_created_at,
           lag(id, 1, '00000000-0000-0000-0000-000000000000') OVER lane AS low_id
    FROM jobs WHERE id = ANY(:ids)
    WINDOW lane AS (PARTITION BY priority >= :bulk ORDER BY priority, created_at, id)
)
SELECT id, CAST(sum(jobs) OVER (PARTITION BY is_bulk ORDER BY priority, created_at, id) AS bigint) AS before
FROM shown CROSS JOIN LATERAL (
    SELECT coalesce(sum(jobs), 0) AS jobs
    FROM (SELECT tenant, collection_id FROM open_flow WHERE tenant = :tenant) AS own CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT 1 FROM jobs
            WHERE jobs.tenant = own.tenant AND jobs.collection_id = own.collection_id
              AND state = 'pending' AND not_before IS NULL
              AND (jobs.priority, jobs.created_at, jobs.id) >= (low_priority, low_created_at, low_id)
              AND (jobs.priority, jobs.created_at, jobs.id) < (shown.priority, shown.created_at, shown.id)
            LIMIT :most) AS found
    ) AS counted
) AS between_them
""")

#: The reason of a row of `jobs`, nothing for one that does not wait.
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
    WHEN jobs.state = 'pending' AND (
        -- The tenant's own cap goes before everybody's; 0 is none.
        SELECT CAST(value ->> 'value' AS bigint) BETWEEN 1 AND (
            SELECT count(*) FROM jobs AS busy
            WHERE busy.state IN ('queued', 'processing') AND busy.tenant = jobs.tenant)
        FROM settings
        WHERE key = 'tenant_max_processing' AND settings.tenant IN ('', jobs.tenant)
        ORDER BY settings.tenant DESC LIMIT 1
    ) THEN 'tenant_cap'
    ELSE 'behind' END""").label("waiting_reason")


def with_places(connection: Connection, rows: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Return job rows of one tenant with `behind` replaced by `behind_N`."""
    jobs = [dict(row) for row in rows]
    behind = [job for job in jobs if job["waiting_reason"] == WaitingReason.BEHIND]
    if not behind:
        return jobs
    line = connection.execute(_QUEUED).scalars().all()
    pending = [job for job in behind if job["state"] == JobState.PENDING]
    ahead = _pending_ahead(connection, pending) if pending else {}
    for job in behind:
        if job["state"] == JobState.PENDING:
            count = len(line) + ahead.get(job["id"], 0)
        else:
            count = line.index(job["id"]) if job["id"] in line else 0
        job["waiting_reason"] = f"{WaitingReason.BEHIND}_{min(count, _COUNT_LIMIT)}"
    return jobs


def _pending_ahead(connection: Connection, pending: list[dict[str, Any]]) -> dict[Any, int]:
    tenant = pending[0]["tenant"]
    shares = [Share(**row) for row in connection.execute(_SHARES, _parameters).mappings()]
    own = next((share for share in shares if share.tenant == tenant), None)
    if own is None:
        return {}
    lanes = connection.execute(
        _BEFORE_IN_LANE, {"tenant": tenant, "ids": [job["id"] for job in pending], **_parameters}
    )
    before = {row.id: row.before for row in lanes}
    return {
        job["id"]: jobs_ahead(
            own,
            place_in_tenant(own, before.get(job["id"], 0) + 1, is_bulk=job["priority"] >= BULK_PRIORITY),
            (job["priority"], job["created_at"]),
            shares,
        )
        for job in pending
    }
