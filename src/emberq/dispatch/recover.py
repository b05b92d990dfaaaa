"""Recovery: missing tickets are enqueued again, jobs of dead horses, workers and hosts run again.

- `sweep` enqueues tickets again that are missing from Redis.
- `reap_expired_hosts`, `reap_dead_neighbours` and `DeadWorkers` reap hosts and workers: they end the
  attempts of the dead, whose jobs then run again.
- `on_horse_death` and `on_stopped` end the attempt of a dead horse; the horse's worker calls them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from rq.job import Job as Ticket
from sqlalchemy import Connection, RowMapping

from emberq.config.current import get_worker_config
from emberq.dispatch.admit import admit_soon
from emberq.dispatch.tickets import enqueue, missing_tickets, repair_queue
from emberq.errors import Cancelled, DatabaseUnavailable, EmberqError, JobStalled, Quarantined, WorkerLost
from emberq.retry.operation import retry_db_operation
from emberq.store.admin.hosts import (
    end_transactions_of_expired_hosts,
    has_jobs,
    hosts_of_machine,
    jobs_of_expired_hosts,
    jobs_of_host,
    release_lease,
)
from emberq.store.jobs.claim import unclaimed_jobs
from emberq.store.jobs.finish import fail_attempt, release_attempt
from emberq.store.schema.job_states import ENDED_STATES
from emberq.store.services import Services, get_services
from emberq.system.processes import process_identity
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.horse.watchdog import REQUEUED, HorseDeath

log = get_logger(__name__)

#: Seconds a ticket may wait unclaimed before the sweep looks for it in Redis.
_SWEEP_AFTER_SECONDS = 5.0
#: Seconds from the pop of a ticket to its claim at most, unless the worker died; milliseconds as a rule.
_CLAIM_SECONDS = 0.2
#: Most tickets of one sweep.
_SWEEP_LIMIT = 256
#: Seconds for which a worker tries to end the attempt of its dead horse; without PostgreSQL it could run
#: nothing anyway.
_END_ATTEMPT_SECONDS = 60.0
#: Upper bound; the time limit ends the retries first.
_END_ATTEMPT_RETRIES = 100


def sweep(
    services: Services, *, job_timeout_seconds: float, after_seconds: float = _SWEEP_AFTER_SECONDS
) -> int:
    """Enqueue the tickets of queued jobs again that are missing from Redis, and return how many.

    Args:
        services: Database and Redis.
        job_timeout_seconds: How long a job may run.
        after_seconds: The least age of a ticket; a younger one is just being enqueued or claimed.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        RedisUnavailable: If Redis does not answer.
    """
    with services.database.system_transaction() as connection:
        unclaimed = unclaimed_jobs(connection, older_than_seconds=after_seconds, limit=_SWEEP_LIMIT)
    repair_queue(services.redis())
    missing = missing_tickets(services.redis(), unclaimed)
    if missing:
        # A ticket that a worker has just popped is claimed by then. A second copy would be refused, and
        # would delete RQ's record of it while the first is worked on.
        time.sleep(_CLAIM_SECONDS)
        with services.database.system_transaction() as connection:
            unclaimed = unclaimed_jobs(connection, older_than_seconds=after_seconds, limit=_SWEEP_LIMIT)
        missing = [ticket for ticket in missing if ticket in unclaimed]
    if missing:
        log.warning("tickets_missing", jobs=len(missing))
        enqueue(services.redis(), missing, job_timeout_seconds=job_timeout_seconds)
        for _ in missing:
            metrics.count_recovery("ticket_lost")
    return len(missing)


def reap_expired_hosts(services: Services, *, retry_delay_seconds: float) -> int:
    """End the attempts of hosts whose lease has expired, and return how many.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
    """
    with services.database.transaction() as connection:
        ended = end_transactions_of_expired_hosts(connection)
    if ended:
        log.warning("transactions_of_expired_hosts_ended", transactions=ended)
    with services.database.system_transaction() as connection:
        return _end_attempts(
            connection,
            jobs_of_expired_hosts(connection),
            WorkerLost("The host that processed the file did not renew its lease."),
            cause="host_lost",
            retry_delay_seconds=retry_delay_seconds,
        )


def reap_dead_neighbours(services: Services, machine: str) -> int:
    """End the attempts of hosts that died on this machine, and return how many hosts there were.

    This does not wait for their leases to expire: their main processes are seen to be gone, and their
    workers end with them.

    Args:
        services: Database and Redis.
        machine: The machine of this process; see `emberq.system.machine`.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        RedisUnavailable: If Redis does not answer; a later sweep finds their tickets.
    """
    if not machine:
        return 0
    with services.database.transaction() as connection:
        hosts = hosts_of_machine(connection, machine)
    dead = [host["id"] for host in hosts if process_identity(host["pid"]) != host["process"]]
    for host_id in dead:
        error = WorkerLost("The host that processed the file died.")
        # The lease stays while PostgreSQL still executes the last statement of one of its processes.
        if _end_attempts_of(services, host_id, error, cause="host_lost"):
            with services.database.transaction() as connection:
                release_lease(connection, host_id)
            log.warning("host_died", host=str(host_id))
    if dead:
        _admit_and_sweep(services)
    return len(dead)


class DeadWorkers:
    """The workers of this host that died, until their attempts are ended; their horses died with them.

    Invariant: a worker is removed only after the end of its attempts is committed. No reaper looks at the
    jobs of a host with a valid lease, so an end that could not be written at the death is written later.
    """

    def __init__(self, services: Services, host_id: uuid.UUID) -> None:
        self._services = services
        self._host_id = host_id
        self._names: list[str] = []

    def add(self, worker: str) -> None:
        """Add a worker that died."""
        self._names.append(worker)

    def reap(self) -> None:
        """End the attempts of all of them, and enqueue the tickets that they popped and did not claim.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer.
            RedisUnavailable: If Redis does not answer; a later sweep finds their tickets.
        """
        if not self._names:
            return
        for name in tuple(self._names):
            error = WorkerLost("The worker that processed the file died.")
            if _end_attempts_of(self._services, self._host_id, error, cause="worker_lost", worker=name):
                self._names.remove(name)
        _admit_and_sweep(self._services)


def _end_attempts_of(
    services: Services, host_id: uuid.UUID, error: WorkerLost, *, cause: str, worker: str | None = None
) -> bool:
    """End the attempts of a dead host, or of one worker of a host; tell whether none is left."""
    with services.database.system_transaction() as connection:
        _end_attempts(
            connection,
            jobs_of_host(connection, host_id, worker),
            error,
            cause=cause,
            retry_delay_seconds=get_worker_config().settings.job_retry_delay,
        )
        return not has_jobs(connection, host_id, worker)


def _admit_and_sweep(services: Services) -> None:
    """Admit the jobs of ended attempts, and enqueue the tickets that the dead popped and did not claim."""
    admit_soon(services)
    sweep(services, job_timeout_seconds=get_worker_config().settings.job_timeout, after_seconds=0.0)


def _end_attempts(
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
        # A job that lost its worker only fails by quarantine.
        code = Quarantined.code if isinstance(error, WorkerLost) else error.code
        metrics.count_job(state=state, error_code=code)


def on_horse_death(worker: str, ticket: Ticket, death: HorseDeath) -> None:
    """End or release the attempt of a dead horse; the worker calls this (`WarmWorker.on_horse_death`).

    Args:
        worker: The worker of the horse; bound where the handler is set.
        ticket: The horse's ticket.
        death: How the horse ended.
    """
    if _job_id(ticket) is None:
        return
    if death.reason == REQUEUED.reason and _release(ticket, worker=worker):
        return
    error = JobStalled(death.message) if death.reason == "stalled" else WorkerLost(death.message)
    _end_attempt(ticket, error, worker=worker, detail=death.stacks or None)


def _job_id(ticket: Ticket) -> uuid.UUID | None:
    """Return the job that a ticket names; nothing if it names none, which only a forged one does."""
    try:
        return uuid.UUID(ticket.args[0])
    except (IndexError, TypeError, ValueError, AttributeError):
        log.warning("ticket_malformed", ticket=ticket.id)
        return None


def _release(ticket: Ticket, *, worker: str | None) -> bool:
    """Release an attempt that was cut off, but not by a cancellation; tell whether it is released."""
    services = get_services()
    try:
        state = _write_release(services, ticket, worker=worker)
    except DatabaseUnavailable as exc:
        log.warning("attempt_not_released", job=ticket.args[0], error=exc.message)
        return False
    if state is None:
        return False
    log.info("attempt_released", job=ticket.args[0], state=state)
    admit_soon(services)
    return True


@retry_db_operation(idempotent=True)  # the second time the job is not in this attempt any more
def _write_release(services: Services, ticket: Ticket, *, worker: str | None) -> str | None:
    with services.database.system_transaction() as connection:
        return release_attempt(connection, uuid.UUID(ticket.args[0]), ticket=ticket.id, worker=worker)


def on_stopped(ticket: Ticket, _connection: Any) -> None:
    """End the attempt of a stopped horse; RQ calls this in the worker (`on_stopped`).

    The job is cancelled if PostgreSQL says so. Otherwise it runs again, and the attempt is not counted:
    any writer to Redis can send the command.
    """
    if _job_id(ticket) is None or _release(ticket, worker=None):
        return
    _end_attempt(ticket, Cancelled("The job was cancelled."))


def _end_attempt(
    ticket: Ticket, error: EmberqError, *, worker: str | None = None, detail: str | None = None
) -> None:
    services = get_services()
    try:
        state = _write_end(services, ticket, error, worker=worker, detail=detail)
    except DatabaseUnavailable as exc:
        # No reaper looks at a job of a host with a valid lease. So the worker ends, and its supervisor, which
        # waits for PostgreSQL as long as it takes, reaps it.
        log.warning("attempt_not_ended", job=ticket.args[0], error=exc.message)
        raise
    _count_end(state, error)
    log.warning("attempt_lost", job=ticket.args[0], error_code=error.code, error=error.message, state=state)
    admit_soon(services)


@retry_db_operation(idempotent=True, max_retries=_END_ATTEMPT_RETRIES, total_seconds=_END_ATTEMPT_SECONDS)
def _write_end(
    services: Services, ticket: Ticket, error: EmberqError, *, worker: str | None, detail: str | None
) -> str | None:
    with services.database.system_transaction() as connection:
        return fail_attempt(
            connection,
            uuid.UUID(ticket.args[0]),
            error,
            ticket=ticket.id,
            detail=detail,
            worker=worker,
            retry_delay_seconds=get_worker_config().settings.job_retry_delay,
        )
