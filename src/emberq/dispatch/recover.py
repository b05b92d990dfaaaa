"""Recovery: tickets that vanished are rung again, jobs of dead workers run again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from rq.job import Job as Ticket
from sqlalchemy import Connection, RowMapping

from emberq.config.snapshot import get_worker_config
from emberq.dispatch.admit import admit
from emberq.dispatch.tickets import lost_tickets, ring
from emberq.errors import Cancelled, EmberqError, JobStalled, Quarantined, WorkerLost
from emberq.store.attempts import queued_jobs
from emberq.store.failures import fail_attempt
from emberq.store.leases import jobs_of_worker, orphaned_jobs
from emberq.store.services import Services, get_services
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.watchdog import HorseDeath

__all__ = ["on_horse_death", "on_stopped", "reap", "sweep", "take_over"]

log = get_logger(__name__)

#: Seconds a ticket may wait unclaimed before the sweep asks Redis whether it is still there.
_SWEEP_AFTER_SECONDS = 5.0
#: Tickets looked at in one sweep.
_SWEEP_LIMIT = 256


def sweep(services: Services, *, job_timeout_seconds: float) -> int:
    """Ring again for queued jobs whose tickets vanished from Redis and return how many there were.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        RedisUnavailable: If Redis does not answer.
    """
    with services.database.transaction() as connection:
        waiting = queued_jobs(connection, older_than_seconds=_SWEEP_AFTER_SECONDS, limit=_SWEEP_LIMIT)
    lost = lost_tickets(services.redis(), waiting)
    if lost:
        log.warning("tickets_lost", jobs=len(lost))
        ring(services.redis(), lost, job_timeout_seconds=job_timeout_seconds)
        for _ in lost:
            metrics.recovered("ticket_lost")
    return len(lost)


def reap(services: Services, *, retry_delay_seconds: float) -> int:
    """Take over the jobs of hosts whose lease is over and return how many there were.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
    """
    with services.database.transaction() as connection:
        return _give_all_back(
            connection,
            orphaned_jobs(connection),
            WorkerLost("The host that processed the file stopped beating."),
            cause="host_lost",
            retry_delay_seconds=retry_delay_seconds,
        )


def take_over(services: Services, *, host_id: uuid.UUID, worker: str) -> None:
    """Give back the jobs of a worker of this host that died; its horse died with it."""
    settings = get_worker_config().settings
    try:
        with services.database.transaction() as connection:
            _give_all_back(
                connection,
                jobs_of_worker(connection, host_id, worker),
                WorkerLost("The worker that processed the file died."),
                cause="worker_lost",
                retry_delay_seconds=settings.job_retry_delay,
            )
        admit(services, job_timeout_seconds=settings.job_timeout)
    except EmberqError as exc:
        log.warning("take_over_failed", worker=worker, error=exc.message)


def _give_all_back(
    connection: Connection,
    jobs: Sequence[RowMapping],
    error: WorkerLost,
    *,
    cause: str,
    retry_delay_seconds: float,
) -> int:
    for job in jobs:
        state = fail_attempt(
            connection, job["id"], error, fence=job["fence"], retry_delay_seconds=retry_delay_seconds
        )
        metrics.recovered(cause)
        _count_end(state, error)
        log.warning("job_reaped", job=str(job["id"]), state=state)
    return len(jobs)


def _count_end(state: str | None, error: EmberqError) -> None:
    if state is not None:
        # A lost worker's job fails only when it is set aside.
        code = Quarantined.code if isinstance(error, WorkerLost) else error.code
        metrics.job_finished(state=state, error_code=code)


def on_horse_death(worker: str, ticket: Ticket, death: HorseDeath) -> None:
    """Give a dead horse's job back at once; the worker calls this (`WarmWorker.on_horse_death`).

    Args:
        worker: The worker whose horse it was; bound where the handler is set.
        ticket: What the horse worked on.
        death: How it ended.
    """
    error = JobStalled(death.message) if death.reason == "stalled" else WorkerLost(death.message)
    _give_back(ticket, error, worker=worker, detail=death.stacks or None)


def on_stopped(ticket: Ticket, _connection: Any) -> None:
    """Mark the job of a stopped horse as cancelled; RQ calls this in the worker (`on_stopped`)."""
    _give_back(ticket, Cancelled("The job was cancelled."))


def _give_back(
    ticket: Ticket, error: EmberqError, *, worker: str | None = None, detail: str | None = None
) -> None:
    services = get_services()
    settings = get_worker_config().settings
    try:
        with services.database.transaction() as connection:
            state = fail_attempt(
                connection,
                uuid.UUID(ticket.args[0]),
                error,
                ticket=ticket.id,
                detail=detail,
                worker=worker,
                retry_delay_seconds=settings.job_retry_delay,
            )
        _count_end(state, error)
        log.warning(
            "attempt_lost", job=ticket.args[0], error_code=error.code, error=error.message, state=state
        )
        admit(services, job_timeout_seconds=settings.job_timeout)
    except EmberqError as exc:
        # PostgreSQL or Redis is away as well: the reaper and the sweep find the job later.
        log.warning("give_back_failed", job=ticket.args[0], error=exc.message)
