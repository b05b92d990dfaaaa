"""Conversion: received bytes become a job that extracts their text, and the request waits for the result.

A waiting request costs a future, but no thread and no connection: one query, repeated, finds the ended jobs
of all of them.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import PurePath
from typing import Any, TypeVar

import anyio.to_thread

from emberq.dispatch.uploads import accept_upload
from emberq.errors import DatabaseUnavailable, EmberqError, ServiceStopping, error_for_code
from emberq.retry.classify import ErrorKind, classify_db_error
from emberq.store.files.blobs import BlobWriter
from emberq.store.files.extractions import (
    ExtractionEnd,
    ended_jobs,
    extraction_collection,
    read_end,
)
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

T = TypeVar("T")

log = get_logger(__name__)

#: Least and most seconds between two queries for ended jobs. In between, it is a fifth of the time that the
#: latest request has waited: a small file is extracted in some ten milliseconds, and after minutes another
#: half second does not matter.
_MIN_POLL_SECONDS, _MAX_POLL_SECONDS = 0.02, 0.5
_POLL_PART = 0.2
#: Seconds between two tries during an outage of PostgreSQL.
_RETRY_SECONDS = 1.0
#: Most jobs of one query.
_MAX_POLLED = 5000


def submit_conversion(
    services: Services,
    writer: BlobWriter,
    *,
    tenant: str,
    name: str,
    metadata: dict[str, Any] | None = None,
    traceparent: str | None = None,
) -> uuid.UUID:
    """Make a job that extracts the text of received bytes, or find the job of the same bytes.

    A second call, after a failure of PostgreSQL, finds what the first one may have stored.

    Args:
        services: Where bytes and job are stored.
        writer: The bytes, completely received.
        tenant: The sender; no other tenant can read the result.
        name: The file's name.
        metadata: Stored with the file, unless the file exists.
        traceparent: W3C trace context of the request.

    Returns:
        The job.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        EmptyFile: If there are no bytes.
        RateLimited: If the tenant has `tenant_max_pending` waiting jobs.
        StorageUnavailable: If the blob store does not work.
    """
    with services.database.tenant_transaction(tenant) as connection:
        collection = extraction_collection(connection, tenant)
    added = accept_upload(
        services,
        writer,
        collection=collection,
        name=name,
        external_id=_identity(writer.sha256, name),
        metadata=metadata,
        traceparent=traceparent,
    )
    if added.deduplicated:
        log.info("extraction_joined", job=str(added.job_id), tenant=tenant)
    return added.job_id


def _identity(sha256: str, name: str) -> str:
    """Return what makes two requests the same: the bytes, and all that decides how they are extracted."""
    # The suffix decides between kinds of text; another version of emberq may extract the same bytes better.
    return f"{sha256}{PurePath(name).suffix.lower()[:20]}/{version('emberq')}"


def read_conversion(services: Services, tenant: str, job_id: uuid.UUID) -> ExtractionEnd:
    """Return how the job of a conversion ended, with the extracted text.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        JobNotFound: If the job, or its result, was deleted.
    """
    with services.database.tenant_transaction(tenant) as connection:
        return read_end(connection, tenant, job_id)


def job_error(fields: dict[str, Any]) -> EmberqError:
    """Return the error that a job's record contains."""
    return error_for_code(str(fields.get("code")))(fields.get("message"), hint=fields.get("hint"))


class JobEnds:
    """Lets the requests of one event loop wait for the ends of jobs.

    Invariants: a waiting request is woken when its job has ended or is deleted, and at the latest when the
    process stops. Errors of PostgreSQL are waited out. While no request waits, nothing is queried.
    """

    def __init__(self, services: Callable[[], Services], *, retry_seconds: float = _RETRY_SECONDS) -> None:
        self._services = services
        self._retry_seconds = retry_seconds
        self._waiting: dict[uuid.UUID, set[asyncio.Future[None]]] = {}
        self._poller: asyncio.Task[None] | None = None
        self._joined_at = 0.0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Wake all waiting requests with `ServiceStopping`, because the process stops."""
        self._stopping.set()
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(ServiceStopping())

    async def wait(self, job_id: uuid.UUID) -> None:
        """Wait until a job has ended or is deleted.

        Raises:
            ServiceStopping: If this process stops first.
        """
        if self._stopping.is_set():
            raise ServiceStopping
        future = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault(job_id, set())
        futures.add(future)
        self._joined_at = time.monotonic()
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            await future
        finally:
            futures.discard(future)
            if not futures and self._waiting.get(job_id) is futures:
                del self._waiting[job_id]

    async def run_in_thread(self, unit: Callable[[], T]) -> T:
        """Run a function in a thread, again and again during an outage of PostgreSQL.

        Args:
            unit: What to do; doing it twice has the same result as once.

        Raises:
            ServiceStopping: If this process stops first.
            EmberqError: Any other error of `unit`.
        """
        return await self.until_database(lambda: anyio.to_thread.run_sync(unit))

    async def until_database(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask again and again during an outage of PostgreSQL.

        Args:
            ask: What to do; doing it twice has the same result as once.

        Raises:
            ServiceStopping: If this process stops first.
            EmberqError: Any other error of `ask`.
        """
        while True:
            try:
                return await ask()
            except DatabaseUnavailable as exc:
                if classify_db_error(exc) is ErrorKind.PERMANENT:
                    raise
                log.warning("request_waits", error_code=exc.code, error=exc.message)
            try:
                await asyncio.wait_for(self._stopping.wait(), self._retry_seconds)
            except TimeoutError:
                continue
            raise ServiceStopping

    async def _poll(self) -> None:
        while self._waiting and not self._stopping.is_set():
            polled = list(self._waiting)[:_MAX_POLLED]
            try:
                ended = await anyio.to_thread.run_sync(self._ended, polled)
            except Exception as exc:  # noqa: BLE001 - the requests wait for the next answer
                log.warning("job_ends_unknown", error=f"{type(exc).__name__}: {exc}", jobs=len(polled))
                await asyncio.sleep(self._retry_seconds)
                continue
            for job_id in ended:
                for future in self._waiting.pop(job_id, ()):
                    if not future.done():
                        future.set_result(None)
            waited = time.monotonic() - self._joined_at
            await asyncio.sleep(min(max(waited * _POLL_PART, _MIN_POLL_SECONDS), _MAX_POLL_SECONDS))

    def _ended(self, job_ids: list[uuid.UUID]) -> set[uuid.UUID]:
        with self._services().database.system_transaction() as connection:
            return ended_jobs(connection, job_ids)
