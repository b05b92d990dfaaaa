"""Cancellation: a waiting job is cancelled at once, a running one by stopping its horse."""

from __future__ import annotations

import uuid
from typing import Any

from redis.exceptions import RedisError
from rq.command import send_command
from rq.job import Job
from rq.utils import as_text

from emberq.store.jobs.bulk_actions import CancelledJobs, cancel_jobs
from emberq.store.jobs.queries import cancel_job
from emberq.store.schema.job_states import JobState
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)


def cancel(services: Services, tenant: str, job_id: uuid.UUID) -> dict[str, Any]:
    """Cancel a job and return it.

    A running job ends when its next progress report finds the request in PostgreSQL, or when RQ's stop
    command reaches its worker, whichever is first.

    Raises:
        JobNotFound: If the tenant has no such job.
    """
    with services.database.tenant_transaction(tenant) as connection:
        job = cancel_job(connection, tenant, job_id)
    if job["state"] == JobState.PROCESSING and job["ticket"]:
        _stop(services, job["ticket"])
    return job


def cancel_many(services: Services, tenant: str, *, collection_id: uuid.UUID | None = None) -> CancelledJobs:
    """Cancel all jobs of a tenant, or of one of its collections."""
    with services.database.tenant_transaction(tenant) as connection:
        done = cancel_jobs(connection, tenant, collection_id=collection_id)
    for ticket in done.tickets:
        _stop(services, ticket)
    return done


def _stop(services: Services, ticket: str) -> None:
    try:
        # RQ's own function reads the whole job, and so fails with whatever is wrong in it.
        worker = services.redis().hget(Job.key_for(ticket), "worker_name")
        if worker:
            send_command(services.redis(), as_text(worker), "stop-job", job_id=ticket)
    except (RedisError, UnicodeDecodeError) as exc:
        log.info("stop_not_sent", ticket=ticket, reason=type(exc).__name__)
