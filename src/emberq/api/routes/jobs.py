"""`/jobs`: list, show, cancel, retry."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from emberq.api.auth import Reader, ServicesDep, Writer
from emberq.api.shapes import JobOut, Page, decode_cursor, encode_cursor, job_out
from emberq.dispatch.cancel import cancel
from emberq.store.jobs import get_job, list_jobs, retry_failed_jobs, retry_job
from emberq.store.tables import JobState

__all__ = ["router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])


class RetryIn(BaseModel):
    """Which failed jobs to run again."""

    error_code: str


class RetryOut(BaseModel):
    """How many jobs run again."""

    retried: int


@router.get("")
def list_all(
    caller: Reader,
    services: ServicesDep,
    state: JobState | None = None,
    error_code: str | None = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Page[JobOut]:
    """List jobs, newest first."""
    with services.database.transaction() as connection:
        rows = list_jobs(
            connection,
            caller.tenant,
            state=state,
            error_code=error_code,
            after=decode_cursor(cursor),
            limit=limit,
        )
    return Page(items=[job_out(row) for row in rows], next_cursor=encode_cursor(rows, limit))


@router.get("/{job_id}")
def show(job_id: uuid.UUID, caller: Reader, services: ServicesDep) -> JobOut:
    """Show one job."""
    with services.database.transaction() as connection:
        return job_out(get_job(connection, caller.tenant, job_id))


@router.post("/{job_id}/cancel", status_code=202)
def cancel_one(job_id: uuid.UUID, caller: Writer, services: ServicesDep) -> JobOut:
    """Cancel a job: at once while it waits, within seconds while it runs."""
    return job_out(cancel(services, caller.tenant, job_id))


@router.post("/{job_id}/retry", status_code=202)
def retry_one(job_id: uuid.UUID, caller: Writer, services: ServicesDep) -> JobOut:
    """Run a failed or cancelled job again."""
    with services.database.transaction() as connection:
        return job_out(retry_job(connection, caller.tenant, job_id))


@router.post("/retry", status_code=202)
def retry_many(body: RetryIn, caller: Writer, services: ServicesDep) -> RetryOut:
    """Run all jobs again that failed with an error code."""
    with services.database.transaction() as connection:
        return RetryOut(retried=retry_failed_jobs(connection, caller.tenant, body.error_code))
