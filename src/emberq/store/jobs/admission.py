"""Admission: which waiting jobs get a ticket next, chosen by one SQL statement."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection, TextClause, text

from emberq.store.jobs.fair_share import STANDING_PARAMETERS, after_standing

__all__ = [
    "ADMIT_STATEMENT",
    "admission_parameters",
    "admit_jobs",
    "count_waiting",
    "free_tickets",
    "lock_admission",
]

#: Advisory lock of admission: whoever holds it sees what all others have admitted.
_ADMISSION_LOCK = 0x61646D69
#: Jobs whose pause is over that one admission makes ready again.
_RIPEN_LIMIT = 1000

#: Tickets that may wait in Redis: one for each live worker slot, so that a free worker finds the next one
#: at once, and no more, because their order cannot change any more. One at least, so that the first
#: worker of all finds something. A job that comes into a flood so waits for at most the job that runs in
#: a slot and the one ticket before it: two job lengths.
_FREE_TICKETS = text("""
SELECT greatest(1, (SELECT coalesce(sum(workers), 0) FROM hosts WHERE lease_until >= now()))
     - (SELECT count(*) FROM jobs WHERE state = 'queued')
""")

_RIPEN = text("""
UPDATE jobs SET not_before = NULL
WHERE id IN (
    SELECT id FROM jobs
    WHERE state = 'pending' AND not_before IS NOT NULL AND not_before <= now()
    ORDER BY not_before
    LIMIT :most
    FOR UPDATE SKIP LOCKED
)
""")

#: standing   the tenants with ready jobs: see `emberq.store.jobs.fair_share`
#: share      those that have room for a job, as many as there are tickets, furthest behind first
#: candidate  the first few jobs of each of their collections, interactive and bulk apart
#: turn       each tenant's candidates in its own order: every fifth turn belongs to bulk
#: chosen     the candidates of all tenants by the virtual clock
#: admitted   the chosen ones that nobody is changing at this moment, moved to `queued`
ADMIT_STATEMENT: TextClause = after_standing("""
, share AS (
    SELECT tenant, taken, begins, weight, room
    FROM standing CROSS JOIN LATERAL (
        -- A breaker that has opened lets one job at a time through to look, after its pause.
        SELECT least(CASE WHEN cap > 0 THEN cap - busy ELSE :room END,
                     CASE WHEN retry_at IS NULL THEN :room WHEN retry_at <= now() THEN 1 - busy ELSE 0 END
               ) AS room
    ) AS allowed
    WHERE room > 0
    ORDER BY begins, priority, created_at
    LIMIT :room
),
candidate AS (
    SELECT share.*, job.id, job.priority, job.created_at, job.is_bulk,
           row_number() OVER (PARTITION BY tenant, is_bulk ORDER BY job.priority, job.created_at, job.id)
               AS place_in_class
    FROM share JOIN open_flow USING (tenant)
    CROSS JOIN LATERAL (
        (SELECT id, priority, created_at, false AS is_bulk FROM jobs
         WHERE jobs.tenant = open_flow.tenant AND jobs.collection_id = open_flow.collection_id
           AND state = 'pending' AND not_before IS NULL AND priority < :bulk
         ORDER BY priority, created_at, id LIMIT :room)
        UNION ALL
        (SELECT id, priority, created_at, true FROM jobs
         WHERE jobs.tenant = open_flow.tenant AND jobs.collection_id = open_flow.collection_id
           AND state = 'pending' AND not_before IS NULL AND priority >= :bulk
         ORDER BY priority, created_at, id LIMIT :room)
    ) AS job
),
turn AS (
    SELECT candidate.*, row_number() OVER (PARTITION BY tenant ORDER BY number) AS place
    FROM candidate CROSS JOIN LATERAL (
        SELECT CASE WHEN is_bulk THEN (taken / 5 + place_in_class) * 5
                    ELSE taken - taken / 5 + place_in_class + (taken - taken / 5 + place_in_class - 1) / 4
               END AS number
    ) AS numbered
),
chosen AS (
    SELECT id, tenant, weight, begins + (place - 1) / weight AS starts, priority, created_at
    FROM turn WHERE place <= room
    ORDER BY starts, priority, created_at, id
    LIMIT :room
),
untouched AS (
    SELECT id FROM jobs
    WHERE id IN (SELECT id FROM chosen) AND state = 'pending'
    FOR UPDATE SKIP LOCKED
),
admitted AS (
    -- A ticket is new for every delivery: a late copy of an old one opens nothing.
    UPDATE jobs
    SET state = 'queued', queued_at = clock_timestamp(), seq = nextval('job_seq'),
        ticket = concat(jobs.id, '-', nextval('fence_seq'))
    FROM chosen JOIN untouched USING (id)
    WHERE jobs.id = chosen.id
    RETURNING jobs.id, jobs.ticket, jobs.priority, jobs.created_at, jobs.tenant, chosen.starts, chosen.weight
),
charged AS (
    INSERT INTO turns (tenant, started, ended, taken)
    SELECT tenant, max(starts), max(starts + 1 / weight), count(*) FROM admitted GROUP BY tenant
    ON CONFLICT (tenant) DO UPDATE
    SET started = excluded.started, ended = excluded.ended, taken = turns.taken + excluded.taken
)
SELECT id, ticket FROM admitted ORDER BY starts, priority, created_at, id
""")

#: Waiting jobs of a tenant, counted from the partial indexes, never from the jobs that are over.
_COUNT_WAITING = text("""
SELECT (SELECT count(*) FROM (
            SELECT 1 FROM jobs WHERE tenant = :tenant AND state = 'pending' AND not_before IS NULL
            LIMIT :most) AS ready)
     + (SELECT count(*) FROM (
            SELECT 1 FROM jobs WHERE tenant = :tenant AND state = 'pending' AND not_before IS NOT NULL
            LIMIT :most) AS held)
     + (SELECT count(*) FROM jobs WHERE tenant = :tenant AND state = 'queued')
""")


def lock_admission(connection: Connection) -> None:
    """Wait until nobody else admits or pauses; held until the transaction ends.

    What follows in the same transaction sees all that others admitted, so that caps hold and no job is
    taken twice whatever the number of hosts.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADMISSION_LOCK})


def free_tickets(connection: Connection) -> int:
    """Return how many more tickets may wait in Redis; negative when there are too many."""
    return int(connection.execute(_FREE_TICKETS).scalar_one())


def admission_parameters(room: int) -> dict[str, object]:
    """Return the parameters of `ADMIT_STATEMENT`, for `room` tickets at most."""
    return {"room": room, **STANDING_PARAMETERS}


def admit_jobs(connection: Connection, *, limit: int | None = None) -> list[tuple[uuid.UUID, str]]:
    """Move the next waiting jobs to `queued` and return each with the id of its new ticket, in order.

    Args:
        connection: The transaction; others wait to admit until it ends, so keep it short.
        limit: Most jobs to admit; as many as there are free tickets if left out.
    """
    if limit is None and free_tickets(connection) <= 0:
        # Whoever makes room admits after that, so nothing is missed by not waiting for the lock.
        return []
    # A crash of PostgreSQL may lose this commit: the tickets then open nothing and the jobs are admitted
    # again, so the disk need not be waited for.
    connection.execute(text("SET LOCAL synchronous_commit = off"))
    lock_admission(connection)
    room = free_tickets(connection) if limit is None else limit
    if room <= 0:
        return []
    connection.execute(_RIPEN, {"most": _RIPEN_LIMIT})
    rows = connection.execute(ADMIT_STATEMENT, admission_parameters(room))
    return [(row.id, str(row.ticket)) for row in rows]


def count_waiting(connection: Connection, tenant: str, *, most: int) -> int:
    """Count a tenant's waiting jobs; those ready and those held back up to `most` each."""
    return int(connection.execute(_COUNT_WAITING, {"tenant": tenant, "most": most}).scalar_one())
