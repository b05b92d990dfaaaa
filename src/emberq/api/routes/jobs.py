"""`/jobs`: list, show, cancel, retry and purge, one job or many."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection

from emberq.api.auth import Caller, Reader, ServicesDep, Writer
from emberq.api.schemas import Cursor, JobOut, Page, decode_cursor, encode_cursor, job_out, write_json
from emberq.api.types import Text
from emberq.config.current import get_worker_config
from emberq.dispatch.admit import admit_soon
from emberq.dispatch.cancel import cancel, cancel_many
from emberq.errors import Forbidden
from emberq.store.files.collections import get_collection
from emberq.store.jobs.bulk_actions import count_active_jobs, retry_jobs
from emberq.store.jobs.queries import get_job, list_jobs, retry_job
from emberq.store.jobs.retention import count_old_jobs, purge_jobs
from emberq.store.schema.job_states import JobState

router = APIRouter(prefix="/jobs", tags=["jobs"])

#: Least age of purged jobs, in seconds: clients may still read the result of a job that has just ended.
_LEAST_AGE_SECONDS = 60.0


class RetryIn(BaseModel):
    """Which failed jobs to retry; a job must match all given fields."""

    model_config = ConfigDict(extra="forbid")

    error_code: Text | None = Field(None, min_length=1)
    quarantined: bool = Field(False, description="Jobs in quarantine, on which several workers died.")
    collection: Text | None = None

    @model_validator(mode="after")
    def _names_something(self) -> RetryIn:
        if self.error_code is None and self.collection is None and not self.quarantined:
            msg = "give error_code, collection or quarantined"
            raise ValueError(msg)
        return self


class RetryOut(BaseModel):
    """The number of retried jobs."""

    retried: int


class CancelIn(BaseModel):
    """Which jobs to cancel."""

    model_config = ConfigDict(extra="forbid")

    collection: Text
    dry_run: bool = Field(False, description="Only count.")


class CancelOut(BaseModel):
    """The number of cancelled jobs, and of running jobs that were asked to stop."""

    cancelled: int
    stopping: int


class PurgeIn(BaseModel):
    """Which records of ended jobs to purge."""

    model_config = ConfigDict(extra="forbid")

    older_than_seconds: float = Field(ge=_LEAST_AGE_SECONDS, le=100 * 365 * 86400)
    dry_run: bool = Field(False, description="Only count.")


class PurgeOut(BaseModel):
    """The number of purged records."""

    purged: int


@router.get("", response_model=Page[JobOut])
def list_all(
    caller: Reader,
    services: ServicesDep,
    *,
    state: JobState | None = None,
    error_code: Text | None = None,
    reason: Annotated[Text | None, Query(description="An error code or a waiting reason.")] = None,
    tenant: Annotated[Text | None, Query(description="A tenant; other tenants need the scope admin.")] = None,
    stuck: Annotated[bool, Query(description="Only jobs without progress for too long.")] = False,
    stuck_after: Annotated[
        float | None,
        Query(gt=0, le=86400 * 365, description="Seconds; the setting stall_timeout if left out."),
    ] = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """List jobs, newest first."""
    owner = _tenant(caller, tenant)
    stuck_seconds = None
    if stuck:
        stuck_seconds = stuck_after or get_worker_config().for_tenant(owner).stall_timeout
    with services.database.tenant_transaction(owner) as connection:
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
    page = Page[JobOut](items=[job_out(row) for row in rows], next_cursor=encode_cursor(rows, limit))
    return write_json(page)


@router.get("/{job_id}")
def show(job_id: uuid.UUID, caller: Reader, services: ServicesDep) -> JobOut:
    """Show one job."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        return job_out(get_job(connection, caller.tenant, job_id))


@router.post("/{job_id}/cancel", status_code=202)
def cancel_one(job_id: uuid.UUID, caller: Writer, services: ServicesDep) -> JobOut:
    """Cancel a job: at once if it waits, within seconds if it runs."""
    return job_out(cancel(services, caller.tenant, job_id))


@router.post("/{job_id}/retry", status_code=202)
def retry_one(job_id: uuid.UUID, caller: Writer, services: ServicesDep) -> JobOut:
    """Retry a failed or cancelled job."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        retried = retry_job(connection, caller.tenant, job_id)
    admit_soon(services)
    return job_out(retried)


@router.post("/retry", status_code=202)
def retry_many(body: RetryIn, caller: Writer, services: ServicesDep) -> RetryOut:
    """Retry failed jobs: those with an error code, those of a collection, or those in quarantine."""
    with services.database.tenant_transaction(caller.tenant) as connection:
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
    """Retry all jobs in quarantine."""
    return retry_many(RetryIn(quarantined=True), caller, services)


@router.post("/cancel", status_code=202)
def cancel_all(body: CancelIn, caller: Writer, services: ServicesDep) -> CancelOut:
    """Cancel all jobs of a collection that have not ended."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        collection_id = _collection_id(connection, caller.tenant, body.collection)
        counted = count_active_jobs(connection, caller.tenant, collection_id=collection_id)
    if not body.dry_run:
        counted = cancel_many(services, caller.tenant, collection_id=collection_id)
    return CancelOut(cancelled=counted.cancelled, stopping=counted.stopping)


@router.post("/purge")
def purge(body: PurgeIn, caller: Writer, services: ServicesDep) -> PurgeOut:
    """Delete the records of jobs that ended long ago; files and each file's newest job are kept."""
    if body.dry_run:
        with services.database.tenant_transaction(caller.tenant) as connection:
            return PurgeOut(
                purged=count_old_jobs(connection, caller.tenant, older_than_seconds=body.older_than_seconds)
            )
    purged = 0
    while True:
        with services.database.tenant_transaction(caller.tenant) as connection:
            deleted = purge_jobs(connection, caller.tenant, older_than_seconds=body.older_than_seconds)
        purged += deleted
        if not deleted:
            return PurgeOut(purged=purged)


def _tenant(caller: Caller, tenant: str | None) -> str:
    if tenant is None or tenant == caller.tenant:
        return caller.tenant
    if "admin" not in caller.scopes:
        raise Forbidden("This key lacks the scope admin, which the jobs of another tenant need.")
    return tenant


def _collection_id(connection: Connection, tenant: str, name: str | None) -> uuid.UUID | None:
    if name is None:
        return None
    found: uuid.UUID = get_collection(connection, tenant, name)["id"]
    return found
