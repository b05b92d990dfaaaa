"""Fair queueing among tenants: each tenant's position in the round, in SQL.

Tenants take turns on a virtual clock (start-time fair queueing). A job of a tenant of weight w moves the
tenant's position by 1/w; the tenant with the lowest position goes next. A tenant that comes back after a
while starts at the clock's present position: it has saved up no turns, and it does not pay for a flood that
ran in the meantime. Within a tenant four turns of five belong to its interactive jobs and one to its bulk
jobs, as long as it has both. docs/explanation/fairness.md explains it for users.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import TextClause, text

from emberq.config.runtime import RuntimeSettings
from emberq.entry_points import QUEUE_NAME

#: Priority of a single upload that a user waits for; a lower number runs first.
INTERACTIVE_PRIORITY = 100
#: Priority of one file among many; from this number on a job is a bulk job.
BULK_PRIORITY = 200
#: The highest number, which runs last.
MAX_PRIORITY = 999

_defaults = RuntimeSettings()
#: The parameters of `after_standing`, besides those of the statement itself.
STANDING_PARAMETERS: Final[dict[str, object]] = {
    "bulk": BULK_PRIORITY,
    "queue": QUEUE_NAME,
    "weight": _defaults.tenant_weight,
    "cap": float(_defaults.tenant_max_processing),
}

#: The tenants' positions, as the beginning of a statement.
#:
#: flow       every (tenant, collection) with ready jobs and the first of them, found by skipping through
#:            the index jobs_ready
#: open_flow  the flows that are not paused
#: first      each tenant's first job
#: standing   each tenant with weight, cap, busy jobs, position on the clock and, if its breaker is open,
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
           -- A change of the provider's settings makes the next probe due at once.
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
    """Return a statement that begins with the positions; `rest` may read `open_flow` and `standing`."""
    return text(_STANDING + rest)
