"""Tickets: RQ jobs that carry a job id as JSON; no bytes, no text, no secrets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError
from rq import Callback, Queue
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.suspension import WORKERS_SUSPENDED

from emberq.entry_points import PROCESS_FILE, QUEUE_NAME, TICKET_ENDED, TICKET_STOPPED
from emberq.errors import RedisUnavailable
from emberq.retry.operation import retry_redis_operation
from emberq.worker.rq.repair import delete_mistyped, keys_of_queue

#: Seconds RQ keeps a ticket that failed; the truth is in PostgreSQL.
_FAILURE_TTL_SECONDS = 300
#: Seconds after which `enqueue` is not retried: an upload waits for it, and the sweep enqueues again anyway.
_ENQUEUE_SECONDS = 2.5
#: The key that shows whether Redis takes writes, and how long it stays.
_PROBE, _PROBE_SECONDS = "rq:emberq:probe", 60
#: What refusals of a write are called.
_REFUSALS = {
    ReadOnlyError: "read_only",
    OutOfMemoryError: "out_of_memory",
    NoPermissionError: "not_permitted",
}
#: Seconds on top of job_timeout for RQ's own time-out, so that ours comes first.
_TIMEOUT_MARGIN_SECONDS = 5


def open_queue(connection: Redis) -> Queue:
    """Return the queue of tickets, with JSON payloads."""
    return Queue(QUEUE_NAME, connection=connection, serializer=JSONSerializer)


@retry_redis_operation(idempotent=True, total_seconds=_ENQUEUE_SECONDS)
def enqueue(
    connection: Redis, tickets: Sequence[tuple[uuid.UUID, str]], *, job_timeout_seconds: float
) -> None:
    """Put tickets into the queue, in order; a ticket that is enqueued twice is claimed once.

    Raises:
        RedisUnavailable: If Redis does not answer; the sweep enqueues the tickets later.
    """
    if not tickets:
        return
    queue = open_queue(connection)
    prepared = [
        Queue.prepare_data(
            PROCESS_FILE,
            args=(str(job_id),),
            job_id=ticket,
            timeout=int(job_timeout_seconds) + _TIMEOUT_MARGIN_SECONDS,
            result_ttl=0,
            failure_ttl=_FAILURE_TTL_SECONDS,
            description=f"process_file({job_id})",
            on_success=Callback(TICKET_ENDED),
            on_stopped=Callback(TICKET_STOPPED),
        )
        for job_id, ticket in tickets
    ]
    try:
        queue.enqueue_many(prepared)
    except (RedisError, OSError) as exc:
        raise RedisUnavailable(f"Redis did not take the tickets: {type(exc).__name__}.") from exc


def repair_queue(connection: Redis) -> None:
    """Delete keys of the queue that are of another type than RQ writes; the sweep brings the tickets back.

    Raises:
        RedisUnavailable: If Redis does not answer.
    """
    try:
        delete_mistyped(connection, keys_of_queue(QUEUE_NAME))
    except (RedisError, OSError) as exc:
        raise RedisUnavailable(f"Redis did not answer: {type(exc).__name__}.") from exc


def queue_error(connection: Redis) -> str | None:
    """Return what keeps workers from taking tickets, nothing if they can.

    Returns:
        `redis_unavailable`; `read_only`, `out_of_memory`, `not_permitted` or `refused` if Redis takes no
        writes; `wrong_type` if the queue is no list; `suspended` after `rq suspend`.
    """
    try:
        with connection.pipeline(transaction=False) as pipeline:
            pipeline.set(_PROBE, 1, ex=_PROBE_SECONDS)
            pipeline.llen(open_queue(connection).key)
            pipeline.exists(WORKERS_SUSPENDED)
            written, length, is_suspended = pipeline.execute(raise_on_error=False)
    except (RedisError, OSError):
        return "redis_unavailable"
    if isinstance(written, Exception):
        return next((name for kind, name in _REFUSALS.items() if isinstance(written, kind)), "refused")
    if isinstance(length, Exception):
        return "wrong_type" if str(length).startswith("WRONGTYPE") else "refused"
    return "suspended" if is_suspended else None


def missing_tickets(
    connection: Redis, tickets: Sequence[tuple[uuid.UUID, str]]
) -> list[tuple[uuid.UUID, str]]:
    """Return the tickets of unclaimed jobs that are not in the queue.

    Popped tickets are included: from the pop to the claim it takes milliseconds, so the worker that popped
    the ticket of an unclaimed job has most likely died. RQ's own clean-up would find the ticket after a
    minute or two; if the worker lives, a ticket that is enqueued twice is still claimed once.

    Raises:
        RedisUnavailable: If Redis does not answer.
    """
    if not tickets:
        return []
    queue = open_queue(connection)
    try:
        with connection.pipeline(transaction=False) as pipeline:
            for _, ticket in tickets:
                pipeline.exists(Job.key_for(ticket))
                pipeline.lpos(queue.key, ticket)
            answers = pipeline.execute()
    except (RedisError, OSError) as exc:
        raise RedisUnavailable(f"Redis did not answer: {type(exc).__name__}.") from exc
    return [
        ticket
        for ticket, exists, place in zip(tickets, answers[::2], answers[1::2], strict=True)
        if not exists or place is None
    ]
