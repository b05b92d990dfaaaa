"""Conversion requests: a file comes in, a job reads it, and the answer is what the job read."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import anyio.to_thread
from fastapi import Request

from emberq.api.auth import Caller
from emberq.api.openapi import request_body
from emberq.api.streams import ClientGone, answer_or_client_gone, body_chunks
from emberq.config.current import get_worker_config
from emberq.config.runtime import RuntimeSettings
from emberq.dispatch.conversion import JobEnds, job_error, read_conversion, submit_conversion
from emberq.errors import FileTooLarge
from emberq.store.files.blobs import BlobWriter
from emberq.store.files.extractions import Extraction
from emberq.store.services import get_services
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Longest file name, in characters.
_NAME_CHARS: Final = 255
#: The OpenAPI description of a request whose body is the file.
BINARY_BODY: Final = request_body("application/octet-stream")


async def authorize(request: Request) -> tuple[Caller, RuntimeSettings]:
    """Return the sender of a request and the settings of its tenant; waits while PostgreSQL is away.

    Raises:
        Forbidden: If the key lacks the scope `write`.
        ServiceStopping: If this process stops before PostgreSQL is back.
    """
    # The front door has checked the key.
    caller: Caller = request.state.caller
    caller.require("write", request)
    ends: JobEnds = request.app.state.job_ends
    snapshot = await ends.run_in_thread(get_worker_config)
    return caller, snapshot.for_tenant(caller.tenant)


async def convert_body(request: Request, *, name: str, metadata: dict[str, Any] | None = None) -> Extraction:
    """Authorize a request whose body is a file, and return what a job reads from the file.

    Raises:
        ClientGone: If the client hangs up first; the job goes on.
        EmberqError: If the request is refused or the file cannot be read; the subclass says why.
        ServiceStopping: If this process stops first; the job goes on.
    """
    caller, settings = await authorize(request)
    limit = settings.max_file_size
    too_large = FileTooLarge(f"It is larger than the {limit} bytes that max_file_size allows.")
    with get_services().blobs.writer() as writer:
        async for chunk in body_chunks(request, max_bytes=limit, too_large=too_large):
            await anyio.to_thread.run_sync(writer.write, chunk)
        return await convert(request, writer, tenant=caller.tenant, name=name, metadata=metadata)


async def convert(
    request: Request,
    writer: BlobWriter,
    *,
    tenant: str,
    name: str,
    metadata: dict[str, Any] | None = None,
) -> Extraction:
    """Create a job that reads the received bytes, wait for its end, and return what it read.

    The wait has no time limit of its own: the job's own limits apply.

    Raises:
        ClientGone: If the client hangs up first; the job goes on.
        EmberqError: If the file cannot be read; the subclass says why.
        ServiceStopping: If this process stops first; the job goes on.
    """
    ends: JobEnds = request.app.state.job_ends
    services = get_services()
    job_id = await ends.run_in_thread(
        partial(
            submit_conversion,
            services,
            writer,
            tenant=tenant,
            name=name,
            metadata=metadata,
            traceparent=request.headers.get("traceparent", "")[:100] or None,
        )
    )
    try:
        await answer_or_client_gone(request, ends.wait(job_id))
    except ClientGone:
        log.info("client_gone", job=str(job_id))
        raise
    end = await ends.run_in_thread(partial(read_conversion, services, tenant, job_id))
    if end.extraction is None:
        raise job_error(end.error or {})
    return end.extraction


def clean_name(name: str) -> str:
    """Return a file's name without its path and its unprintable characters, cut to 255 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = "".join(char for char in last if char.isprintable()).strip()
    stem, dot, suffix = shown.rpartition(".")
    if len(shown) > _NAME_CHARS:
        shown = f"{stem[: _NAME_CHARS - len(suffix) - 1]}{dot}{suffix}"[:_NAME_CHARS]
    return shown
