"""Admission: gives tickets to the next waiting jobs, a bounded number at a time."""

from __future__ import annotations

from typing import Any

from rq.job import Job as Ticket

from emberq.config.current import get_worker_config
from emberq.dispatch.tickets import enqueue
from emberq.errors import EmberqError
from emberq.store.jobs.admission import admit_jobs
from emberq.store.services import Services, get_services
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)


def admit(services: Services, *, job_timeout_seconds: float) -> int:
    """Admit the next waiting jobs, enqueue their tickets, and return how many.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; nothing was changed.
        RedisUnavailable: If Redis does not answer; the sweep enqueues the tickets later.
    """
    with services.database.system_transaction() as connection:
        tickets = admit_jobs(connection)
    if tickets:
        enqueue(services.redis(), tickets, job_timeout_seconds=job_timeout_seconds)
        log.debug("jobs_admitted", jobs=len(tickets))
    return len(tickets)


def admit_soon(services: Services) -> None:
    """Admit the next waiting jobs; never raises: after an outage maintenance admits them."""
    try:
        admit(services, job_timeout_seconds=get_worker_config().settings.job_timeout)
    except EmberqError as exc:
        log.warning("admission_postponed", error_code=exc.code, error=exc.message)


def on_ended(_ticket: Ticket, _connection: Any, _result: Any) -> None:
    """Admit a job in place of an ended one; RQ calls this in the horse (`on_success`).

    The next ticket is then in the queue before the worker asks for it, however short the jobs are.
    """
    admit_soon(get_services())
