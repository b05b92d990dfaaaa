"""The round that tenants take turns in, and where each of them stands.

Tenants take turns on a virtual clock (start-time fair queueing). A job of a tenant of weight w moves the
tenant's place on the clock by 1/w; the tenant that is furthest behind goes next. A tenant that comes
back after a while starts where the clock is now, so that nobody saves up turns and nobody pays for a
flood that ran while others were away. Within a tenant four turns of five belong to its interactive jobs
and one to its bulk jobs, as long as it has both. docs/explanation/fairness.md explains it for people.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import TextClause, text

from emberq.config.runtime import RuntimeSettings

__all__ = [
    "BULK_PRIORITY",
    "INTERACTIVE_PRIORITY",
    "MAX_PRIORITY",
    "QUEUE_NAME",
    "STANDING_PARAMETERS",
    "Share",
    "after_standing",
    "jobs_ahead",
    "place_in_tenant",
]

#: The queue of document jobs. One per worker: RQ's recoverable pop works with a single queue only.
QUEUE_NAME = "emberq"
#: Priority of an upload somebody waits for; low runs first.
INTERACTIVE_PRIORITY = 100
#: Priority of one file among many; from here on a job is bulk.
BULK_PRIORITY = 200
#: Highest number, that is the last in line.
MAX_PRIORITY = 999
#: Every turn of a tenant that this divides belongs to its bulk jobs.
_BULK_TURN = 5

_defaults = RuntimeSettings()
#: The parameters of `after_standing`, besides those of the statement itself.
STANDING_PARAMETERS: Final[dict[str, object]] = {
    "bulk": BULK_PRIORITY,
    "queue": QUEUE_NAME,
    "weight": _defaults.tenant_weight,
    "cap": float(_defaults.tenant_max_processing),
}

#: Where tenants stand, as the beginning of a statement.
#:
#: flow       every (tenant, collection) with ready jobs and the first of them, found by skipping through
#:            the index jobs_ready
#: open_flow  those that are not paused
#: first      each tenant's first job
#: standing   each tenant with weight, cap, jobs at work, place on the clock and, if its breaker is open,
#:            the time of the next probe
_STANDING: Final = """
WITH RECURSIVE flow AS (
    (SELECT tenant, collection_id, priority, created_at FROM jobs
     WHERE state = 'pending' AND not_before IS NULL
     ORDER BY tenant, collection_id, priority, created_at, id LIMIT 1)
    UNION ALL
    SELECT following.*
    FROM flow CROSS JOIN LATERAL (
        SELECT tenant, collection_id, priority, created_at FROM jobs
        WHERE state = 'pending' AND not_before IS NULL
          AND (tenant, collection_id) > (flow.tenant, flow.collection_id)
        ORDER BY tenant, collection_id, priority, created_at, id LIMIT 1
    ) AS following
),
open_flow AS (
    SELECT * FROM flow
    WHERE NOT EXISTS (
        SELECT 1 FROM pauses
        WHERE (scope = 'queue' AND name = :queue)
           OR (scope = 'tenant' AND pauses.tenant = flow.tenant)
           OR (scope = 'collection' AND pauses.collection_id = flow.collection_id)
    )
),
first AS (
    SELECT DISTINCT ON (tenant) tenant, priority, created_at
    FROM open_flow ORDER BY tenant, priority, created_at
),
rule AS (
    SELECT tenant, key, CAST(value ->> 'value' AS double precision) AS value
    FROM settings WHERE key IN ('tenant_weight', 'tenant_max_processing')
),
busy AS (
    SELECT tenant, count(*) AS jobs FROM jobs WHERE state IN ('queued', 'processing') GROUP BY tenant
),
standing AS (
    SELECT first.tenant, first.priority, first.created_at,
           -- Whoever changes the provider's settings wants to see at once whether it helped.
           CASE WHEN breakers.retry_at > now() AND EXISTS (
               SELECT 1 FROM settings_history AS change
               WHERE change.tenant IN ('', first.tenant) AND change.key LIKE 'rag_embedding%'
                 AND change.changed_at > breakers.failed_at
           ) THEN now() ELSE breakers.retry_at END AS retry_at,
           coalesce(busy.jobs, 0) AS busy,
           coalesce(turns.taken, 0) AS taken,
           greatest(turns.ended, (SELECT max(started) FROM turns), 0) AS begins,
           coalesce(own_weight.value, every_weight.value, :weight) AS weight,
           coalesce(own_cap.value, every_cap.value, :cap) AS cap
    FROM first
    LEFT JOIN busy ON busy.tenant = first.tenant
    LEFT JOIN turns ON turns.tenant = first.tenant
    LEFT JOIN breakers ON breakers.tenant = first.tenant
    LEFT JOIN rule AS own_weight ON own_weight.key = 'tenant_weight' AND own_weight.tenant = first.tenant
    LEFT JOIN rule AS every_weight ON every_weight.key = 'tenant_weight' AND every_weight.tenant = ''
    LEFT JOIN rule AS own_cap ON own_cap.key = 'tenant_max_processing' AND own_cap.tenant = first.tenant
    LEFT JOIN rule AS every_cap ON every_cap.key = 'tenant_max_processing' AND every_cap.tenant = ''
)
"""


def after_standing(rest: str) -> TextClause:
    """Return the statement that `rest` goes on with; it may read `open_flow` and `standing`."""
    return text(_STANDING + rest)


@dataclass(frozen=True, slots=True)
class Share:
    """What one tenant that may start jobs has waiting, and where it stands in the round.

    Attributes:
        tenant: The tenant.
        begins: Where on the virtual clock its next job begins.
        weight: Its share; a job moves it by 1/weight.
        taken: Jobs it was given so far.
        priority: Priority of its first job; breaks ties.
        created_at: When that was uploaded; breaks further ties.
        interactive: Interactive jobs that wait.
        bulk: Bulk jobs that wait.
    """

    tenant: str
    begins: float
    weight: float
    taken: int
    priority: int
    created_at: datetime
    interactive: int
    bulk: int


def place_in_tenant(share: Share, place_in_lane: int, *, is_bulk: bool) -> int:
    """Return a job's place, from 1, among its tenant's jobs.

    Args:
        share: The tenant.
        place_in_lane: The job's place, from 1, among the tenant's interactive or its bulk jobs.
        is_bulk: Which of the two.
    """
    bulk_turns = share.taken // _BULK_TURN
    other_turns = share.taken - bulk_turns
    if is_bulk:
        turn = (bulk_turns + place_in_lane) * _BULK_TURN
        return place_in_lane + min(share.interactive, turn - turn // _BULK_TURN - other_turns)
    number = other_turns + place_in_lane
    turn = number + (number - 1) // (_BULK_TURN - 1)
    return place_in_lane + min(share.bulk, turn // _BULK_TURN - bulk_turns)


def jobs_ahead(own: Share, place: int, key: tuple[int, datetime], shares: Iterable[Share]) -> int:
    """Count the waiting jobs of all tenants that are admitted before a job.

    Args:
        own: The job's tenant.
        place: The job's place among its tenant's jobs, from 1.
        key: Its priority and time; breaks ties.
        shares: All tenants that may start jobs.
    """
    starts = own.begins + (place - 1) / own.weight
    ahead = place - 1
    for other in shares:
        turns = (starts - other.begins) * other.weight
        if other.tenant == own.tenant or turns < 0:
            continue
        # Its job number n begins at begins + (n - 1) / weight: those before `starts`, and one in a tie.
        before = math.ceil(turns)
        tie = turns == before and (other.priority, other.created_at) < key
        ahead += min(before + tie, other.interactive + other.bulk)
    return ahead
