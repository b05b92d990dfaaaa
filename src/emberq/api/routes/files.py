"""`/files`: upload, list, show, download, change and delete."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Annotated, Any

import anyio
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
    FilePatch,
    Page,
    UploadOut,
    decode_cursor,
    encode_cursor,
    file_out,
    job_out,
    write_json,
)
from emberq.api.types import (
    MOST_CHARACTERS,
    ExternalId,
    LongText,
    Text,
    check_external_id,
    check_small_json,
    parse_json,
)
from emberq.config.current import get_worker_config
from emberq.dispatch.uploads import accept_upload
from emberq.errors import InvalidRequest
from emberq.store.files.add import AddedFile
from emberq.store.files.collections import get_collection
from emberq.store.files.files import delete_file, get_file, get_text, list_files, update_file
from emberq.store.jobs.fair_share import BULK_PRIORITY, INTERACTIVE_PRIORITY, MAX_PRIORITY
from emberq.store.jobs.queries import get_job
from emberq.store.schema.job_states import JobState
from emberq.store.services import Services
from emberq.visible import visible

router = APIRouter(tags=["files"])

#: Most external ids by which a listing is filtered at once.
_MOST_IDS = 100
#: Texts are read by a few requests at a time: each may take a hundred megabytes.
_texts = anyio.CapacityLimiter(4)

_NAMED_PRIORITIES = {"interactive": INTERACTIVE_PRIORITY, "bulk": BULK_PRIORITY}

_UPLOAD_FORM = form_body(
    "file",
    {
        "external_id": {
            "type": "string",
            "description": "Your own id of the file. The same id is the same file.",
        },
        "name": {
            "type": "string",
            "description": "The file's name; the one of the uploaded part if left out.",
        },
        "source": {
            "type": "string",
            "description": "Where the file comes from, such as a folder; files are listed by it.",
        },
        "metadata": {
            "type": "string",
            "description": "A JSON object; search results of the file include it. If left out, a file that"
            " is there already keeps its own.",
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
            name=_file_name(form.fields.get("name") or form.file_name or "unnamed"),
            external_id=_identifier(form.fields, "external_id"),
            source=_identifier(form.fields, "source"),
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
    return UploadOut(
        file=file_out(file), job=job_out(job), outcome=added.outcome, deduplicated=added.deduplicated
    )


def _metadata(text: str | None) -> dict[str, Any] | None:
    if not text:
        return None
    value = parse_json(text, field="metadata")
    if not isinstance(value, dict):
        raise InvalidRequest("metadata: must be a JSON object.")
    try:
        check_small_json(value)
    except ValueError as exc:
        raise InvalidRequest(f"metadata: {exc}.") from exc
    return value


def _file_name(name: str) -> str:
    if len(name) > MOST_CHARACTERS:
        raise InvalidRequest(f"filename, name: must have at most {MOST_CHARACTERS} characters.")
    return name


def _identifier(fields: dict[str, str], field: str) -> str | None:
    try:
        return check_external_id(fields[field]) if fields.get(field) else None
    except ValueError as exc:
        raise InvalidRequest(f"{field}: {exc}.") from exc


def _priority(text: str | None) -> int:
    if not text:
        return INTERACTIVE_PRIORITY
    if text in _NAMED_PRIORITIES:
        return _NAMED_PRIORITIES[text]
    if text.isascii() and text.isdigit() and int(text) <= MAX_PRIORITY:
        return int(text)
    raise InvalidRequest(f"priority: must be interactive, bulk, or a number from 0 to {MAX_PRIORITY}.")


@router.get("/collections/{name}/files", response_model=Page[FileOut])
def list_all(
    name: Text,
    caller: Reader,
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    state: JobState | None = None,
    external_id: Annotated[
        list[ExternalId] | None,
        Query(max_length=_MOST_IDS, description="Only files with one of these external ids."),
    ] = None,
    source: Annotated[ExternalId | None, Query(description="Only files from this source.")] = None,
) -> Response:
    """List the collection's files, oldest first."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        collection = get_collection(connection, caller.tenant, name)
        rows = list_files(
            connection,
            collection,
            state=state,
            external_ids=external_id or (),
            source=source,
            after=decode_cursor(cursor),
            limit=limit,
        )
    page = Page[FileOut](items=[file_out(row) for row in rows], next_cursor=encode_cursor(rows, limit))
    return write_json(page)


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
async def text(
    file_id: uuid.UUID,
    caller: Reader,
    services: ServicesDep,
    start: Annotated[int, Query(ge=0, lt=1 << 31, description="Index of the first character.")] = 0,
    end: Annotated[
        int | None, Query(ge=0, lt=1 << 31, description="Index after the last character; all if left out.")
    ] = None,
) -> PlainTextResponse:
    """Download the extracted text; `start` and `end` of search results count its characters."""

    def read() -> PlainTextResponse:
        with services.database.tenant_transaction(caller.tenant) as connection:
            found = get_text(connection, caller.tenant, file_id, start=start, end=end)
        return PlainTextResponse(found or "")

    return await anyio.to_thread.run_sync(read, limiter=_texts)


@router.patch("/files/{file_id}")
def change(file_id: uuid.UUID, body: FilePatch, caller: Writer, services: ServicesDep) -> FileOut:
    """Change a file's name or metadata; the next searches show it."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        row = update_file(connection, caller.tenant, file_id, name=body.name, metadata=body.metadata)
    return file_out(row)


@router.delete("/files/{file_id}", status_code=204)
def delete(file_id: uuid.UUID, caller: Writer, services: ServicesDep) -> None:
    """Delete a file; searches stop finding it at once."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        delete_file(connection, caller.tenant, file_id)
