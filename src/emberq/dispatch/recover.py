"""Recovery: tickets that vanished are rung again, jobs of dead workers run again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from rq.job import Job as Ticket
from sqlalchemy import Connection, RowMapping

from emberq.config.current import get_worker_config
from emberq.dispatch.admit import admit_soon
from emberq.dispatch.tickets import enqueue, missing_tickets
from emberq.errors import Cancelled, DatabaseUnavailable, EmberqError, JobStalled, Quarantined, WorkerLost
from emberq.retry.operation import retry_db_operation
from emberq.store.admin.hosts import (
    cut_off_silent_hosts,
    has_jobs,
    hosts_of_machine,
    jobs_in_hand,
    orphaned_jobs,
    release_host,
)
from emberq.store.jobs.claim import queued_jobs
from emberq.store.jobs.finish import fail_attempt, release_attempt
from emberq.store.schema.job_states import ENDED_STATES
from emberq.store.services import Services, get_services
from emberq.system.processes import process_identity
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.horse.watchdog import REQUEUED, HorseDeath

__all__ = ["DeadWorkers", "on_horse_death", "on_stopped", "reap", "sweep", "take_over_neighbours"]

log = get_logger(__name__)

#: Seconds a ticket may wait unclaimed before the sweep asks Redis whether it is still there.
_SWEEP_AFTER_SECONDS = 5.0
#: Tickets looked at in one sweep.
_SWEEP_LIMIT = 256
#: Seconds a worker tries to write down how its horse ended; without PostgreSQL it could run nothing anyway.
_GIVE_BACK_SECONDS = 60.0
#: More than fit in.
_GIVE_BACK_RETRIES = 100


def sweep(
    services: Services, *, job_timeout_seconds: float, after_seconds: float = _SWEEP_AFTER_SECONDS
) -> int:
    """Ring again for queued jobs whose tickets vanished from Redis and return how many there were.

    Args:
        services: Database and Redis.
        job_timeout_seconds: How long a job may run.
        after_seconds: How long a ticket must have been out; younger ones are just being rung or claimed.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        RedisUnavailable: If Redis does not answer.
    """
    with services.database.transaction() as connection:
        waiting = queued_jobs(connection, older_than_seconds=after_seconds, limit=_SWEEP_LIMIT)
    lost = missing_tickets(services.redis(), waiting)
    if lost:
        log.warning("tickets_lost", jobs=len(lost))
        enqueue(services.redis(), lost, job_timeout_seconds=job_timeout_seconds)
        for _ in lost:
            metrics.count_recovery("ticket_lost")
    return len(lost)


def reap(services: Services, *, retry_delay_seconds: float) -> int:
    """Take over the jobs of hosts whose lease is over and return how many there were.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
    """
    with services.database.transaction() as connection:
        cut_off = cut_off_silent_hosts(connection)
    if cut_off:
        log.warning("silent_hosts_cut_off", transactions=cut_off)
    with services.database.transaction() as connection:
        return _give_all_back(
            connection,
            orphaned_jobs(connection),
            WorkerLost("The host that processed the file stopped beating."),
            cause="host_lost",
            retry_delay_seconds=retry_delay_seconds,
        )


def take_over_neighbours(services: Services, machine: str) -> int:
    """Take over the jobs of hosts that died on this machine, and return how many hosts there were.

    Their leases need not be waited for: their main processes are seen to be gone, and their workers end
    with them.

    Args:
        services: Database and Redis.
        machine: Where this process runs; see `emberq.system.machine`.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        RedisUnavailable: If Redis does not answer; the sweep finds their tickets later.
    """
    if not machine:
        return 0
    with services.database.transaction() as connection:
        hosts = hosts_of_machine(connection, machine)
    dead = [host["id"] for host in hosts if process_identity(host["pid"]) != host["process"]]
    for host_id in dead:
        error = WorkerLost("The host that processed the file died.")
        # Kept while the server is still about what one of its processes asked last.
        if _take_all_back(services, host_id, error, cause="host_lost"):
            with services.database.transaction() as connection:
                release_host(connection, host_id)
            log.warning("host_died", host=str(host_id))
    if dead:
        _give_out(services)
    return len(dead)


class DeadWorkers:
    """The workers of this host that died, until their jobs are taken over; their horses died with them.

    Invariant: one is forgotten only once that is committed. No reaper looks at the jobs of a host that
    beats, so what PostgreSQL could not be told at the death has to be told later.
    """

    def __init__(self, services: Services, host_id: uuid.UUID) -> None:
        """Begin with none."""
        self._services = services
        self._host_id = host_id
        self._names: list[str] = []

    def add(self, worker: str) -> None:
        """Note a worker's death."""
        self._names.append(worker)

    def take_over(self) -> None:
        """Give back the jobs of all of them, and the tickets that they popped and nobody claimed.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer.
            RedisUnavailable: If Redis does not answer; the sweep finds their tickets later.
        """
        if not self._names:
            return
        for name in tuple(self._names):
            error = WorkerLost("The worker that processed the file died.")
            if _take_all_back(self._services, self._host_id, error, cause="worker_lost", worker=name):
                self._names.remove(name)
        _give_out(self._services)


def _take_all_back(
    services: Services, host_id: uuid.UUID, error: WorkerLost, *, cause: str, worker: str | None = None
) -> bool:
    """Take back what a dead host, or one worker of a host, had in hand; tells whether that is all."""
    with services.database.transaction() as connection:
        _give_all_back(
            connection,
            jobs_in_hand(connection, host_id, worker),
            error,
            cause=cause,
            retry_delay_seconds=get_worker_config().settings.job_retry_delay,
        )
        return not has_jobs(connection, host_id, worker)


def _give_out(services: Services) -> None:
    """Let what was taken back run again, and ring for what the dead popped and nobody claimed."""
    admit_soon(services)
    sweep(services, job_timeout_seconds=get_worker_config().settings.job_timeout, after_seconds=0.0)


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
        metrics.count_recovery(cause)
        _count_end(state, error)
        log.warning("job_reaped", job=str(job["id"]), state=state)
    return len(jobs)


def _count_end(state: str | None, error: EmberqError) -> None:
    if state is not None and state in ENDED_STATES:
        # A lost worker's job fails only when it is set aside.
        code = Quarantined.code if isinstance(error, WorkerLost) else error.code
        metrics.count_job(state=state, error_code=code)


def on_horse_death(worker: str, ticket: Ticket, death: HorseDeath) -> None:
    """Give a dead horse's job back at once; the worker calls this (`WarmWorker.on_horse_death`).

    Args:
        worker: The worker whose horse it was; bound where the handler is set.
        ticket: What the horse worked on.
        death: How it ended.
    """
    if death.reason == REQUEUED.reason and _release(ticket, worker=worker):
        return
    error = JobStalled(death.message) if death.reason == "stalled" else WorkerLost(death.message)
    _give_back(ticket, error, worker=worker, detail=death.stacks or None)


def _release(ticket: Ticket, *, worker: str) -> bool:
    """Take back what was cut off because its worker leaves; tells whether that is done."""
    services = get_services()
    try:
        state = _write_release(services, ticket, worker=worker)
    except DatabaseUnavailable as exc:
        log.warning("release_failed", job=ticket.args[0], error=exc.message)
        return False
    if state is None:
        return False
    log.info("attempt_released", job=ticket.args[0], state=state)
    admit_soon(services)
    return True


@retry_db_operation(idempotent=True)  # after the first time it is no longer this worker's
def _write_release(services: Services, ticket: Ticket, *, worker: str) -> str | None:
    with services.database.transaction() as connection:
        return release_attempt(connection, uuid.UUID(ticket.args[0]), ticket=ticket.id, worker=worker)


def on_stopped(ticket: Ticket, _connection: Any) -> None:
    """Mark the job of a stopped horse as cancelled; RQ calls this in the worker (`on_stopped`)."""
    _give_back(ticket, Cancelled("The job was cancelled."))


def _give_back(
    ticket: Ticket, error: EmberqError, *, worker: str | None = None, detail: str | None = None
) -> None:
    services = get_services()
    try:
        state = _write_end(services, ticket, error, worker=worker, detail=detail)
    except DatabaseUnavailable as exc:
        # Nobody else looks after a job of a host that beats. So the worker ends, and its supervisor, which
        # waits for as long as it takes, takes the job over.
        log.warning("give_back_failed", job=ticket.args[0], error=exc.message)
        raise
    _count_end(state, error)
    log.warning("attempt_lost", job=ticket.args[0], error_code=error.code, error=error.message, state=state)
    admit_soon(services)


@retry_db_operation(idempotent=True, max_retries=_GIVE_BACK_RETRIES, total_seconds=_GIVE_BACK_SECONDS)
def _write_end(
    services: Services, ticket: Ticket, error: EmberqError, *, worker: str | None, detail: str | None
) -> str | None:
    with services.database.transaction() as connection:
        return fail_attempt(
            connection,
            uuid.UUID(ticket.args[0]),
            error,
            ticket=ticket.id,
            detail=detail,
            worker=worker,
            retry_delay_seconds=get_worker_config().settings.job_retry_delay,
        )
