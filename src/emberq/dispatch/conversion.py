"""Conversion: bytes become a job that reads them, and whoever sent them waits for what it read.

A request that waits costs a future and no thread or connection: one question, asked again and again,
tells for all of them which jobs are over.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
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

__all__ = ["JobEnds", "job_error", "result", "submit"]

T = TypeVar("T")

log = get_logger(__name__)

#: Seconds between two looks for jobs that are over: a fifth of the time the latest request has waited, within
#: these. A small file is read in some ten milliseconds, and nobody minds half a second on top of minutes.
_MIN_LOOK_SECONDS, _MAX_LOOK_SECONDS = 0.02, 0.5
_LOOK_PART = 0.2
#: Seconds between two tries while PostgreSQL is away.
_AWAY_SECONDS = 1.0
#: Jobs asked for at once.
_MOST_ASKED = 5000


def submit(
    services: Services,
    writer: BlobWriter,
    *,
    tenant: str,
    name: str,
    metadata: dict[str, Any] | None = None,
    traceparent: str | None = None,
) -> uuid.UUID:
    """Make a job of received bytes, or find the one that reads, or has read, the same.

    Tried again after a failure of PostgreSQL, it finds what the first try may have stored.

    Args:
        services: Where bytes and job are kept.
        writer: The bytes, complete.
        tenant: Who sent them; nobody else gets to see what is read.
        name: What they are called.
        metadata: Kept with the file, unless it is there already.
        traceparent: W3C trace context of the request.

    Returns:
        The job.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        EmptyFile: If there are no bytes.
        RateLimited: If the tenant has `tenant_max_pending` waiting jobs.
        StorageUnavailable: If the blob store does not work.
    """
    with services.database.transaction() as connection:
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
    """Return what makes two requests the same: the bytes, and what else decides how they are read."""
    # The ending decides between kinds of text; another version of emberq may read the same bytes better.
    return f"{sha256}{PurePath(name).suffix.lower()[:20]}/{version('emberq')}"


def result(services: Services, tenant: str, job_id: uuid.UUID) -> ExtractionEnd:
    """Return how the job of an extraction ended.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        JobNotFound: If it was deleted.
    """
    with services.database.transaction() as connection:
        return read_end(connection, tenant, job_id)


def job_error(fields: dict[str, Any]) -> EmberqError:
    """Return the error that a job's record tells of."""
    return error_for_code(str(fields.get("code")))(fields.get("message"), hint=fields.get("hint"))


class JobEnds:
    """Lets requests of one event loop wait for the ends of jobs, through whatever happens meanwhile.

    Invariants: a waiting request is woken once its job is over or gone, and at the latest when the process
    stops. Errors of PostgreSQL are waited out, never told. While nobody waits, nothing is asked.
    """

    def __init__(self, services: Callable[[], Services]) -> None:
        """Prepare to wait.

        Args:
            services: Gives the services, when they are first needed.
        """
        self._services = services
        self._waiting: dict[uuid.UUID, set[asyncio.Future[None]]] = {}
        self._asker: asyncio.Task[None] | None = None
        self._joined_at = 0.0
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Wake everybody with `ServiceStopping`: the process stops."""
        self._leaving.set()
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(ServiceStopping())

    async def wait(self, job_id: uuid.UUID) -> None:
        """Wait until a job is over or gone.

        Raises:
            ServiceStopping: If this process stops first.
        """
        if self._leaving.is_set():
            raise ServiceStopping
        future = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault(job_id, set())
        futures.add(future)
        self._joined_at = time.monotonic()
        if self._asker is None or self._asker.done():
            self._asker = asyncio.create_task(self._ask())
        try:
            await future
        finally:
            futures.discard(future)
            if not futures and self._waiting.get(job_id) is futures:
                del self._waiting[job_id]

    async def persist(self, unit: Callable[[], T]) -> T:
        """Do something in a thread, again and again while PostgreSQL is away.

        Args:
            unit: What to do; doing it twice is the same as once.

        Raises:
            ServiceStopping: If this process stops first.
            EmberqError: What it raises besides.
        """
        while True:
            try:
                return await anyio.to_thread.run_sync(unit)
            except DatabaseUnavailable as exc:
                if classify_db_error(exc) is ErrorKind.PERMANENT:
                    raise
                log.warning("request_waits", error_code=exc.code, error=exc.message)
            try:
                await asyncio.wait_for(self._leaving.wait(), _AWAY_SECONDS)
            except TimeoutError:
                continue
            raise ServiceStopping

    async def _ask(self) -> None:
        while self._waiting and not self._leaving.is_set():
            asked = list(self._waiting)[:_MOST_ASKED]
            try:
                ended = await anyio.to_thread.run_sync(self._look, asked)
            except Exception as exc:  # noqa: BLE001 - whatever it is, others wait for the next answer
                log.warning("ends_not_known", error=f"{type(exc).__name__}: {exc}", jobs=len(asked))
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            for job_id in ended:
                for future in self._waiting.pop(job_id, ()):
                    if not future.done():
                        future.set_result(None)
            waited = time.monotonic() - self._joined_at
            await asyncio.sleep(min(max(waited * _LOOK_PART, _MIN_LOOK_SECONDS), _MAX_LOOK_SECONDS))

    def _look(self, asked: list[uuid.UUID]) -> set[uuid.UUID]:
        with self._services().database.transaction() as connection:
            return ended_jobs(connection, asked)
