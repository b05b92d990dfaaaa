"""Admission: waiting jobs get tickets, a bounded number at a time."""

from __future__ import annotations

from typing import Any

from rq.job import Job as Ticket

from emberq.config.current import get_worker_config
from emberq.dispatch.tickets import enqueue
from emberq.errors import EmberqError
from emberq.store.jobs.admission import admit_jobs
from emberq.store.services import Services, get_services
from emberq.telemetry.logs import get_logger

__all__ = ["admit", "admit_soon", "on_ended"]

log = get_logger(__name__)


def admit(services: Services, *, job_timeout_seconds: float) -> int:
    """Give tickets to the next waiting jobs and return how many got one.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; nothing was changed.
        RedisUnavailable: If Redis does not answer; the sweep rings for these jobs later.
    """
    with services.database.transaction() as connection:
        tickets = admit_jobs(connection)
    if tickets:
        enqueue(services.redis(), tickets, job_timeout_seconds=job_timeout_seconds)
        log.debug("jobs_admitted", jobs=len(tickets))
    return len(tickets)


def admit_soon(services: Services) -> None:
    """Admit now if everything answers; whoever calls has done its part either way, and the keeper admits."""
    try:
        admit(services, job_timeout_seconds=get_worker_config().settings.job_timeout)
    except EmberqError as exc:
        log.warning("admission_postponed", error_code=exc.code, error=exc.message)


def on_ended(_ticket: Ticket, _connection: Any, _result: Any) -> None:
    """Fill the place of a job that ended; RQ calls this in the horse (`on_success`).

    The next ticket so lies ready before the worker asks for one, however short the jobs are.
    """
    admit_soon(get_services())
