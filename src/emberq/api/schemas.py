"""The schemas of requests and responses; the OpenAPI document is generated from them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Query, Response
from pydantic import BaseModel, ConfigDict, Field

from emberq.api.types import JsonObject, LongText, Text, parse_json
from emberq.errors import InvalidRequest
from emberq.models.files import shown_name
from emberq.store.files.add import UploadOutcome

T = TypeVar("T")

#: The position in a listing from which a page goes on.
Cursor = Annotated[Text | None, Query(description="The next_cursor of the page before.")]

#: Collection names are used in URLs and in the paths of exported files.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class CollectionIn(BaseModel):
    """A collection to create."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=_NAME, description="Letters, digits, dots, dashes, underscores.")
    embedding_model: Text | None = Field(None, description="The setting rag_embedding_model if left out.")
    metadata: JsonObject = Field(default_factory=dict)


class CollectionPatch(BaseModel):
    """What to change of a collection; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, pattern=_NAME, description="Letters, digits, dots, dashes, underscores.")
    metadata: JsonObject | None = Field(None, description="Replaces the whole object.")


class CollectionOut(BaseModel):
    """A collection."""

    id: uuid.UUID
    name: str
    embedding_model: str
    metadata: dict[str, Any]
    created_at: datetime
    files: int = 0


class ErrorOut(BaseModel):
    """Why a job failed, or why its last attempt did."""

    code: str
    message: str
    hint: str = ""
    stage: str | None = None
    attempt: int | None = None
    at: datetime | None = None


class AttemptOut(BaseModel):
    """The end of an attempt that did not complete its job."""

    attempt: int
    code: str
    message: str
    stage: str | None
    at: datetime
    worker: str | None


class ProgressOut(BaseModel):
    """The progress of the current stage, in pages or chunks."""

    done: int
    total: int


class WarningOut(BaseModel):
    """What of a file is not in its text, though the file was read."""

    code: str
    message: str
    hint: str
    count: int = Field(description="How many pictures, files, pages or fonts it concerns.")
    names: list[str] = Field(description="The first of their names, where they have names.")


class JobOut(BaseModel):
    """A job."""

    id: uuid.UUID
    file_id: uuid.UUID
    file_name: str
    collection: str
    state: Literal["pending", "queued", "processing", "completed", "failed", "cancelled"]
    stage: str | None
    progress: ProgressOut
    attempt: int
    max_attempts: int
    quarantined: bool
    waiting_reason: str | None = Field(
        None,
        description="Why the job waits: paused, backoff, no_worker, queue_broken, tenant_cap or behind_N,"
        " an estimate.",
    )
    error: ErrorOut | None
    attempts: list[AttemptOut] = Field(description="The ends of earlier attempts, oldest first.")
    warnings: list[WarningOut] = Field(description="What of the file is not in its text, once it was read.")
    timings: dict[str, float] = Field(description="Seconds each stage took in the last attempt.")
    config_version: int | None
    worker: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    traceparent: str | None


class FileOut(BaseModel):
    """A file, and the state of its newest version."""

    id: uuid.UUID
    name: str
    external_id: str
    source: str | None = Field(description="Where the file comes from, as its uploader said.")
    collection: str
    metadata: dict[str, Any]
    version: int
    visible_version: int | None = Field(
        description="The version that searches use; null until the first version is completed."
    )
    size: int
    sha256: str
    media_type: str | None
    page_count: int | None
    warnings: list[WarningOut]
    state: str
    stage: str | None
    error: ErrorOut | None
    job_id: uuid.UUID
    created_at: datetime


class UploadOut(BaseModel):
    """The acknowledgement of an upload: its file and its job."""

    file: FileOut
    job: JobOut
    outcome: UploadOutcome = Field(
        description="What the upload did: a new file was created; other bytes replaced the file's; the bytes"
        " were there already and the name or the metadata was updated; nothing changed; or the bytes were"
        " there already and their job, which had failed or was cancelled, is retried."
    )
    deduplicated: bool = Field(description="Whether the file had these bytes already.")


class FilePatch(BaseModel):
    """What to change of a file; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    name: Text | None = Field(None, min_length=1)
    metadata: JsonObject | None = Field(None, description="Replaces the whole object.")


class Page(BaseModel, Generic[T]):
    """A page of a listing; send `next_cursor` as `cursor` to get the next page."""

    items: list[T]
    next_cursor: str | None = None


class SearchIn(BaseModel):
    """A search."""

    model_config = ConfigDict(extra="forbid")

    query: LongText = Field(min_length=1, max_length=10_000)
    k: int | None = Field(None, ge=1, le=1000, description="Most results; the setting rag_top_k if left out.")
    mode: Literal["vector", "keyword", "hybrid"] | None = Field(
        None, description="If left out, hybrid; vector if the setting rag_hybrid is off."
    )
    rerank: bool = False
    filter: JsonObject | None = Field(None, description="Only files whose metadata contains this object.")


class FileRef(BaseModel):
    """The file of a search result."""

    id: uuid.UUID
    name: str
    external_id: str


class ResultOut(BaseModel):
    """A search result; `text` is the extracted text of the file from `start` to `end`, in characters."""

    text: str
    score: float
    file: FileRef
    page: int | None
    start: int
    end: int
    heading: str | None
    header: str | None = Field(
        description="The names of the columns, if the text begins with a later row of a table."
    )
    metadata: dict[str, Any]


class SearchOut(BaseModel):
    """The results of a search, best first."""

    results: list[ResultOut]
    took_ms: float


def write_json(answer: BaseModel) -> Response:
    """Return the response with an answer that may be long; call it in a thread.

    FastAPI would write it on the event loop, on which all other requests wait.
    """
    return Response(answer.model_dump_json(), media_type="application/json")


def collection_out(row: Mapping[Any, Any]) -> CollectionOut:
    """Return the schema of a collection row."""
    return CollectionOut(
        **{key: row[key] for key in ("id", "name", "metadata", "created_at")},
        embedding_model=shown_name(row["embedding_model"]),
        files=row.get("files", 0),
    )


def job_out(row: Mapping[Any, Any]) -> JobOut:
    """Return the schema of a job row."""
    fields = {key: row[key] for key in JobOut.model_fields if key not in ("progress", "warnings")}
    return JobOut(
        progress=ProgressOut(done=row["progress_done"], total=row["progress_total"]),
        warnings=row["warnings"] or [],
        **fields,
    )


def file_out(row: Mapping[Any, Any]) -> FileOut:
    """Return the schema of a file row."""
    return FileOut(
        version=row["newest_version"], **{key: row[key] for key in FileOut.model_fields if key != "version"}
    )


def encode_cursor(rows: Sequence[Mapping[Any, Any]], limit: int) -> str | None:
    """Return the cursor after the last row, or None if the page is the last one."""
    if len(rows) < limit:
        return None
    last = rows[-1]
    text = json.dumps([last["created_at"].isoformat(), str(last["id"])])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> tuple[datetime, uuid.UUID] | None:
    """Return the position that a cursor stands for.

    Raises:
        InvalidRequest: If it is not a cursor from a listing.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        created_at, row_id = parse_json(text, field="cursor")
        # As UTC: Python has time zones to the microsecond, PostgreSQL does not.
        return datetime.fromisoformat(created_at).astimezone(UTC), uuid.UUID(row_id)
    except (ValueError, TypeError, AttributeError, OverflowError, InvalidRequest) as exc:
        raise InvalidRequest("The cursor is not valid.", hint="Send a next_cursor of this listing.") from exc
