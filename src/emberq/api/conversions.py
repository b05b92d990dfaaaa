"""What the routes share that take a file and answer with what was read from it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from emberq.api.auth import Caller, identify, sent_key
from emberq.config.current import get_worker_config
from emberq.config.runtime import RuntimeSettings
from emberq.dispatch.conversion import JobEnds, job_error, result, submit
from emberq.errors import FileTooLarge, InvalidRequest
from emberq.store.files.blobs import BlobWriter
from emberq.store.files.extractions import Extraction
from emberq.store.services import get_services
from emberq.telemetry.logs import get_logger

__all__ = ["accept", "clean_name", "convert", "receive_body"]

log = get_logger(__name__)

#: Longest file name, in characters.
_NAME_CHARS: Final = 255


async def accept(request: Request) -> tuple[Caller, RuntimeSettings]:
    """Return who sent a request, and the settings in force for it; waits while PostgreSQL is away.

    Raises:
        Forbidden: If the key does not allow to write.
        Unauthorized: If there is no such key.
    """
    ends: JobEnds = request.app.state.job_ends

    def look() -> tuple[Caller, RuntimeSettings]:
        caller = identify(sent_key(request))
        caller.require("write", request)
        return caller, get_worker_config().for_tenant(caller.tenant)

    return await ends.persist(look)


async def receive_body(request: Request, writer: BlobWriter, *, max_bytes: int) -> None:
    """Read a request's raw body into a blob writer.

    Raises:
        FileTooLarge: If it is longer than `max_bytes`.
        InvalidRequest: If it is cut short.
        StorageUnavailable: If the blob store does not take it.
    """
    try:
        async for data in request.stream():
            if writer.size + len(data) > max_bytes:
                raise FileTooLarge(f"It is larger than the {max_bytes} bytes that max_file_size allows.")
            if data:
                await anyio.to_thread.run_sync(writer.write, data)
    except ClientDisconnect as exc:
        raise InvalidRequest("The upload was cut short.", hint="Send it again; nothing was kept.") from exc


async def convert(
    request: Request,
    writer: BlobWriter,
    *,
    tenant: str,
    name: str,
    metadata: dict[str, Any] | None = None,
) -> Extraction:
    """Have received bytes read by a job, and hold the request until it is over, however long that takes.

    Args:
        request: The request.
        writer: The bytes.
        tenant: Who sent them.
        name: What they are called.
        metadata: Kept with the file.

    Raises:
        EmberqError: Why they could not be read.
        ServiceStopping: If this process stops first; the job goes on.
    """
    ends: JobEnds = request.app.state.job_ends
    services = get_services()
    job_id = await ends.persist(
        partial(
            submit,
            services,
            writer,
            tenant=tenant,
            name=name,
            metadata=metadata,
            traceparent=request.headers.get("traceparent", "")[:100] or None,
        )
    )
    if not await _stays_until(request, ends.wait(job_id)):
        log.info("client_left", job=str(job_id))
        raise InvalidRequest("The client left; the job goes on.")
    end = await ends.persist(partial(result, services, tenant, job_id))
    if end.extraction is None:
        raise job_error(end.error or {})
    return end.extraction


async def _stays_until(request: Request, end: Coroutine[Any, Any, None]) -> bool:
    """Wait for an end and tell whether the client did so too; raises what the wait does."""
    ended = asyncio.ensure_future(end)
    # Its body has been read, so all that can still come is that it leaves. `is_disconnected` looks too
    # briefly to hear of it behind a middleware.
    left = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({ended, left}, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            return False
        ended.result()
        return True
    finally:
        for one in (ended, left):
            one.cancel()
        await asyncio.gather(ended, left, return_exceptions=True)


def clean_name(name: str) -> str:
    """Return a file's name without its path and without what cannot be shown or stored."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(char for char in last if char.isprintable()).strip()
    stem, dot, suffix = shown.rpartition(".")
    if len(shown) > _NAME_CHARS:
        shown = f"{stem[: _NAME_CHARS - len(suffix) - 1]}{dot}{suffix}"[:_NAME_CHARS]
    return shown
