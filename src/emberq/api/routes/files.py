"""`/files`: upload, list, show, download and delete."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from sqlalchemy import RowMapping

from emberq.api.auth import Reader, ServicesDep, Writer
from emberq.api.forms.upload import receive_upload
from emberq.api.openapi import form_body
from emberq.api.schemas import (
    Cursor,
    FileOut,
    Page,
    UploadOut,
    decode_cursor,
    encode_cursor,
    file_out,
    job_out,
)
from emberq.api.types import MOST_CHARACTERS, LongText, Text, check_small_json, parse_json
from emberq.config.current import get_worker_config
from emberq.dispatch.uploads import accept_upload
from emberq.errors import InvalidRequest
from emberq.store.files.collections import get_collection
from emberq.store.files.files import AddedFile, delete_file, get_file, get_text, list_files
from emberq.store.jobs.fair_share import BULK_PRIORITY, INTERACTIVE_PRIORITY, MAX_PRIORITY
from emberq.store.jobs.queries import get_job
from emberq.store.schema.job_states import JobState
from emberq.store.services import Services
from emberq.visible import visible

router = APIRouter(tags=["files"])

_NAMED_PRIORITIES = {"interactive": INTERACTIVE_PRIORITY, "bulk": BULK_PRIORITY}

_UPLOAD_FORM = form_body(
    "file",
    {
        "external_id": {
            "type": "string",
            "description": "Your own id of the file. The same id is the same file.",
        },
        "metadata": {
            "type": "string",
            "description": "A JSON object; search results of the file include it.",
        },
        "priority": {
            "type": "string",
            "description": "interactive (the default), bulk, or 0 (first) to 999.",
        },
    },
)


@router.post(
    "/collections/{name}/files",
    status_code=202,
    openapi_extra=_UPLOAD_FORM,
    responses={200: {"model": UploadOut, "description": "The same bytes are there already."}},
)
async def upload(
    name: Text,
    request: Request,
    response: Response,
    caller: Writer,
    services: ServicesDep,
    idempotency_key: Annotated[LongText | None, Header(max_length=255)] = None,
    traceparent: Annotated[LongText | None, Header(max_length=100)] = None,
) -> UploadOut:
    """Upload a file; 202 means that its bytes and its job are durable."""
    settings = get_worker_config().for_tenant(caller.tenant)
    collection = await anyio.to_thread.run_sync(_find_collection, services, caller.tenant, name)
    with services.blobs.writer() as writer:
        form = await receive_upload(request, writer, max_bytes=settings.max_file_size)
        store = partial(
            accept_upload,
            services,
            writer,
            collection=collection,
            name=_file_name(form.file_name or "unnamed"),
            external_id=_external_id(form.fields.get("external_id")),
            metadata=_metadata(form.fields.get("metadata")),
            priority=_priority(form.fields.get("priority")),
            idempotency_key=idempotency_key,
            traceparent=traceparent,
        )
        added = await anyio.to_thread.run_sync(store)
    answer = await anyio.to_thread.run_sync(_upload_out, services, caller.tenant, added)
    if added.deduplicated and answer.job.state == "completed":
        response.status_code = 200
    response.headers["Location"] = f"/api/v1/jobs/{added.job_id}"
    return answer


def _find_collection(services: Services, tenant: str, name: str) -> RowMapping:
    with services.database.tenant_transaction(tenant) as connection:
        return get_collection(connection, tenant, name)


def _upload_out(services: Services, tenant: str, added: AddedFile) -> UploadOut:
    with services.database.tenant_transaction(tenant) as connection:
        file = get_file(connection, tenant, added.file_id)
        job = get_job(connection, tenant, added.job_id)
    return UploadOut(file=file_out(file), job=job_out(job), deduplicated=added.deduplicated)


def _metadata(text: str | None) -> dict[str, Any]:
    value = parse_json(text, field="metadata") if text else {}
    if not isinstance(value, dict):
        raise InvalidRequest("metadata: must be a JSON object.")
    try:
        check_small_json(value)
    except ValueError as exc:
        raise InvalidRequest(f"metadata: {exc}.") from exc
    return value


def _file_name(name: str) -> str:
    if len(name) > MOST_CHARACTERS:
        raise InvalidRequest(f"filename: must have at most {MOST_CHARACTERS} characters.")
    return name


def _external_id(text: str | None) -> str | None:
    if text is not None and len(text) > MOST_CHARACTERS:
        raise InvalidRequest(f"external_id: must have at most {MOST_CHARACTERS} characters.")
    return text or None


def _priority(text: str | None) -> int:
    if not text:
        return INTERACTIVE_PRIORITY
    if text in _NAMED_PRIORITIES:
        return _NAMED_PRIORITIES[text]
    if text.isascii() and text.isdigit() and int(text) <= MAX_PRIORITY:
        return int(text)
    raise InvalidRequest(f"priority: must be interactive, bulk, or a number from 0 to {MAX_PRIORITY}.")


@router.get("/collections/{name}/files")
def list_all(
    name: Text,
    caller: Reader,
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    state: JobState | None = None,
) -> Page[FileOut]:
    """List the collection's files, oldest first."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        collection = get_collection(connection, caller.tenant, name)
        rows = list_files(connection, collection, state=state, after=decode_cursor(cursor), limit=limit)
    return Page(items=[file_out(row) for row in rows], next_cursor=encode_cursor(rows, limit))


@router.get("/files/{file_id}")
def show(file_id: uuid.UUID, caller: Reader, services: ServicesDep) -> FileOut:
    """Show one file."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        return file_out(get_file(connection, caller.tenant, file_id))


@router.get("/files/{file_id}/content", response_class=FileResponse)
def content(file_id: uuid.UUID, caller: Reader, services: ServicesDep) -> FileResponse:
    """Download the file as it was uploaded."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        row = get_file(connection, caller.tenant, file_id)
    # Always an attachment: the script of an uploaded HTML page must not run in this origin.
    return FileResponse(
        services.blobs.existing(row["blob"]),
        media_type=row["media_type"] or "application/octet-stream",
        filename=visible(row["name"]),
        headers={"X-Content-Type-Options": "nosniff"},
    )


@router.get("/files/{file_id}/text", response_class=PlainTextResponse)
def text(file_id: uuid.UUID, caller: Reader, services: ServicesDep) -> PlainTextResponse:
    """Download the extracted text; `start` and `end` of search results count its characters."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        return PlainTextResponse(get_text(connection, caller.tenant, file_id) or "")


@router.delete("/files/{file_id}", status_code=204)
def delete(file_id: uuid.UUID, caller: Writer, services: ServicesDep) -> None:
    """Delete a file; searches stop finding it at once."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        delete_file(connection, caller.tenant, file_id)
