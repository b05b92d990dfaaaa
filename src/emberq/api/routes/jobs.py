"""`/jobs`: list, show, cancel, retry, one by one and many at once."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection

from emberq.api.auth import Caller, Reader, ServicesDep, Writer
from emberq.api.schemas import JobOut, Page, decode_cursor, encode_cursor, job_out
from emberq.config.current import get_worker_config
from emberq.dispatch.admit import admit_soon
from emberq.dispatch.cancel import cancel, cancel_many
from emberq.errors import Forbidden
from emberq.store.files.collections import get_collection
from emberq.store.jobs.bulk_actions import count_active_jobs, retry_jobs
from emberq.store.jobs.queries import get_job, list_jobs, retry_job
from emberq.store.jobs.retention import count_old_jobs, purge_jobs
from emberq.store.schema.tables import JobState

__all__ = ["router"]

router = APIRouter(prefix="/jobs", tags=["jobs"])

#: Least age of jobs that can be purged, in seconds: what has just ended is still being looked at.
_LEAST_AGE_SECONDS = 60.0


class RetryIn(BaseModel):
    """Which failed jobs to run again; a job must meet everything that is given."""

    model_config = ConfigDict(extra="forbid")

    error_code: str | None = Field(None, min_length=1, max_length=100)
    quarantined: bool = Field(False, description="Jobs that were set aside because they ended their worker.")
    collection: str | None = None

    @model_validator(mode="after")
    def _names_something(self) -> RetryIn:
        if self.error_code is None and self.collection is None and not self.quarantined:
            msg = "give error_code, collection or quarantined"
            raise ValueError(msg)
        return self


class RetryOut(BaseModel):
    """How many jobs run again."""

    retried: int


class CancelIn(BaseModel):
    """Which jobs to cancel."""

    model_config = ConfigDict(extra="forbid")

    collection: str
    dry_run: bool = Field(False, description="Only count.")


class CancelOut(BaseModel):
    """How many jobs were cancelled, and how many run and were asked to stop."""

    cancelled: int
    stopping: int


class PurgeIn(BaseModel):
    """Which records of ended jobs to delete."""

    model_config = ConfigDict(extra="forbid")

    older_than_seconds: float = Field(ge=_LEAST_AGE_SECONDS, le=100 * 365 * 86400)
    dry_run: bool = Field(False, description="Only count.")


class PurgeOut(BaseModel):
    """How many records were deleted."""

    purged: int


@router.get("")
def list_all(
    caller: Reader,
    services: ServicesDep,
    *,
    state: JobState | None = None,
    error_code: str | None = None,
    reason: Annotated[str | None, Query(description="An error code, or why jobs wait.")] = None,
    tenant: Annotated[str | None, Query(description="The key's own, unless it is an admin's.")] = None,
    stuck: Annotated[bool, Query(description="Only jobs that run or wait for a worker too long.")] = False,
    stuck_after: Annotated[
        float | None,
        Query(gt=0, le=86400 * 365, description="Seconds; the setting stall_timeout if left out."),
    ] = None,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Page[JobOut]:
    """List jobs, newest first."""
    owner = _tenant(caller, tenant)
    stuck_seconds = None
    if stuck:
        stuck_seconds = stuck_after or get_worker_config().for_tenant(owner).stall_timeout
    with services.database.transaction() as connection:
        rows = list_jobs(
            connection,
            owner,
            state=state,
            error_code=error_code,
            reason=reason,
            stuck_seconds=stuck_seconds,
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
        retried = retry_job(connection, caller.tenant, job_id)
    admit_soon(services)
    return job_out(retried)


@router.post("/retry", status_code=202)
def retry_many(body: RetryIn, caller: Writer, services: ServicesDep) -> RetryOut:
    """Run failed jobs again: all with one error code, of one collection, or all in quarantine."""
    with services.database.transaction() as connection:
        retried = retry_jobs(
            connection,
            caller.tenant,
            error_code=body.error_code,
            collection_id=_collection_id(connection, caller.tenant, body.collection),
            quarantined=body.quarantined,
        )
    admit_soon(services)
    return RetryOut(retried=retried)


@router.post("/requeue-quarantined", status_code=202)
def requeue_quarantined(caller: Writer, services: ServicesDep) -> RetryOut:
    """Run all jobs again that were set aside because they ended their worker too often."""
    return retry_many(RetryIn(quarantined=True), caller, services)


@router.post("/cancel", status_code=202)
def cancel_all(body: CancelIn, caller: Writer, services: ServicesDep) -> CancelOut:
    """Cancel all jobs of a collection that are not over."""
    with services.database.transaction() as connection:
        collection_id = _collection_id(connection, caller.tenant, body.collection)
        counted = count_active_jobs(connection, caller.tenant, collection_id=collection_id)
    if not body.dry_run:
        counted = cancel_many(services, caller.tenant, collection_id=collection_id)
    return CancelOut(cancelled=counted.cancelled, stopping=counted.stopping)


@router.post("/purge")
def purge(body: PurgeIn, caller: Writer, services: ServicesDep) -> PurgeOut:
    """Delete the records of jobs that ended long ago; files, and each file's newest job, stay."""
    if body.dry_run:
        with services.database.transaction() as connection:
            return PurgeOut(
                purged=count_old_jobs(connection, caller.tenant, older_than_seconds=body.older_than_seconds)
            )
    purged = 0
    while True:
        with services.database.transaction() as connection:
            gone = purge_jobs(connection, caller.tenant, older_than_seconds=body.older_than_seconds)
        purged += gone
        if not gone:
            return PurgeOut(purged=purged)


def _tenant(caller: Caller, tenant: str | None) -> str:
    if tenant is None or tenant == caller.tenant:
        return caller.tenant
    if "admin" not in caller.scopes:
        raise Forbidden("This key is not for the jobs of another tenant.")
    return tenant


def _collection_id(connection: Connection, tenant: str, name: str | None) -> uuid.UUID | None:
    if name is None:
        return None
    found: uuid.UUID = get_collection(connection, tenant, name)["id"]
    return found
