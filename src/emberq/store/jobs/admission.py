"""Admission: one SQL statement chooses the waiting jobs that get a ticket next."""

from __future__ import annotations

import uuid

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import OperationalError

from emberq.store.jobs.fair_share import STANDING_PARAMETERS, after_standing

#: Advisory lock of admission: a transaction that has it sees all earlier admissions.
_ADMISSION_LOCK = 0x61646D69
#: Longest wait for that lock, in milliseconds. A host that froze in its admission keeps the lock until its
#: lease expires; until then every other process has to be able to renew its lease and run its other duties.
_LOCK_WAIT = 2000
#: PostgreSQL's error for a lock that was not free in time (lock_not_available).
_LOCK_TIMEOUT_SQLSTATE = "55P03"
#: Most jobs that one admission makes ready after their delay.
_DUE_LIMIT = 1000

#: Tickets that may still be put into Redis. There is one for each live worker slot, so that a free worker
#: finds the next one at once, and no more, because the order of tickets is final. There is at least one, for
#: the first worker that starts. A job that arrives in a flood therefore waits for at most the job that runs
#: in a slot and the one ticket before it: two job lengths.
_FREE_TICKETS = text("""
SELECT greatest(1, (SELECT coalesce(sum(workers), 0) FROM hosts WHERE lease_until >= now()))
     - (SELECT count(*) FROM jobs WHERE state = 'queued')
""")

_MAKE_READY = text("""
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
#: share      the tenants that have room for a job, lowest position first, as many as there are tickets
#: candidate  the first few jobs of each of their collections, interactive and bulk separately
#: turn       each tenant's candidates in its own order: every fifth turn belongs to its bulk jobs
#: chosen     the candidates of all tenants, by the virtual clock
#: admitted   the chosen jobs that are not locked, moved to `queued`
ADMIT_STATEMENT: TextClause = after_standing("""
, share AS (
    SELECT tenant, taken, begins, weight, room
    FROM standing CROSS JOIN LATERAL (
        -- An open breaker admits one job at a time, as a probe, when it is due.
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
    -- Each delivery has a new ticket: a late copy of an old one is void.
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

#: Waiting jobs of a tenant, counted in the partial indexes, which contain no ended jobs.
_COUNT_WAITING = text("""
SELECT (SELECT count(*) FROM (
            SELECT 1 FROM jobs WHERE tenant = :tenant AND state = 'pending' AND not_before IS NULL
            LIMIT :most) AS ready)
     + (SELECT count(*) FROM (
            SELECT 1 FROM jobs WHERE tenant = :tenant AND state = 'pending' AND not_before IS NOT NULL
            LIMIT :most) AS delayed)
     + (SELECT count(*) FROM jobs WHERE tenant = :tenant AND state = 'queued')
""")


def lock_admission(connection: Connection) -> None:
    """Lock admission and pauses until the transaction ends.

    The following statements of the transaction see all earlier admissions, so that caps are kept and no job
    is admitted twice, whatever the number of hosts.

    Raises:
        sqlalchemy.exc.OperationalError: If another transaction has the lock for more than two seconds;
            `Database.transaction` turns it into `DatabaseUnavailable`.
    """
    connection.execute(text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": str(_LOCK_WAIT)})
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _ADMISSION_LOCK})


def _try_lock_admission(connection: Connection) -> bool:
    """Lock admission like `lock_admission`; return False if another transaction has the lock for too long."""
    locked = connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _ADMISSION_LOCK})
    if locked.scalar_one():
        return True
    try:
        with connection.begin_nested():
            lock_admission(connection)
    except OperationalError as exc:
        if getattr(exc.orig, "sqlstate", None) != _LOCK_TIMEOUT_SQLSTATE:
            raise
        return False
    return True


def free_tickets(connection: Connection) -> int:
    """Return how many more tickets may be put into Redis; negative if there are too many."""
    return int(connection.execute(_FREE_TICKETS).scalar_one())


def admission_parameters(room: int) -> dict[str, object]:
    """Return the parameters of `ADMIT_STATEMENT` for at most `room` tickets."""
    return {"room": room, **STANDING_PARAMETERS}


def admit_jobs(connection: Connection, *, limit: int | None = None) -> list[tuple[uuid.UUID, str]]:
    """Move the next waiting jobs to `queued`, and return each with the id of its new ticket, in order.

    No job is admitted while another transaction has admission locked for more than two seconds.

    Args:
        connection: The transaction; other admissions wait until it ends, so keep it short.
        limit: Most jobs to admit; by default the number of free tickets.
    """
    if limit is None and free_tickets(connection) <= 0:
        # A process that makes room admits afterwards, so it is safe not to wait for the lock here.
        return []
    # There is no need to wait for the disk: if a crash of PostgreSQL loses this commit, the tickets are void
    # and the jobs are admitted again.
    connection.execute(text("SET LOCAL synchronous_commit = off"))
    if not _try_lock_admission(connection):
        return []
    room = free_tickets(connection) if limit is None else limit
    if room <= 0:
        return []
    connection.execute(_MAKE_READY, {"most": _DUE_LIMIT})
    rows = connection.execute(ADMIT_STATEMENT, admission_parameters(room))
    return [(row.id, str(row.ticket)) for row in rows]


def count_waiting(connection: Connection, tenant: str, *, most: int) -> int:
    """Count a tenant's waiting jobs; the ready and the delayed ones up to `most` each."""
    return int(connection.execute(_COUNT_WAITING, {"tenant": tenant, "most": most}).scalar_one())
