"""Cancelling: a waiting job at once, a running one by stopping its horse."""

from __future__ import annotations

import uuid

from redis.exceptions import RedisError
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.serializers import JSONSerializer
from sqlalchemy import RowMapping

from emberq.store.jobs import cancel_job
from emberq.store.services import Services
from emberq.store.tables import JobState
from emberq.telemetry.logs import get_logger

__all__ = ["cancel"]

log = get_logger(__name__)


def cancel(services: Services, tenant: str, job_id: uuid.UUID) -> RowMapping:
    """Cancel a job and return it.

    A running job is asked twice: its next progress report finds the request in PostgreSQL, and its
    horse is stopped through Redis, whichever comes first.

    Raises:
        JobNotFound: If the tenant has no such job.
    """
    with services.database.transaction() as connection:
        job = cancel_job(connection, tenant, job_id)
    if job["state"] == JobState.PROCESSING and job["ticket"]:
        try:
            send_stop_job_command(services.redis(), job["ticket"], serializer=JSONSerializer)
        except (RedisError, NoSuchJobError, InvalidJobOperation) as exc:
            log.info("stop_not_sent", job=str(job_id), reason=type(exc).__name__)
    return job
