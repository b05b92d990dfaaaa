"""Files and their versions: adding, listing, reading and deleting."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, null, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.orm import aliased

from emberq.errors import CollectionNotFound, FileNotFound, IdempotencyConflict, RateLimited
from emberq.store.files.blobs import StoredBlob
from emberq.store.jobs.admission import count_waiting
from emberq.store.jobs.fair_share import INTERACTIVE_PRIORITY
from emberq.store.jobs.queries import cancel_jobs_of_file
from emberq.store.schema.job_states import LIVE_STATES, JobState
from emberq.store.schema.tables import (
    ChunkRow,
    Collection,
    CollectionKind,
    FileRow,
    FileVersion,
    IdempotencyKey,
    Job,
)

_columns = (
    FileRow.id,
    FileRow.name,
    FileRow.external_id,
    FileRow.meta.label("metadata"),
    FileRow.visible_version,
    FileRow.newest_version,
    FileRow.created_at,
    Collection.name.label("collection"),
    FileVersion.sha256,
    FileVersion.size,
    FileVersion.media_type,
    FileVersion.page_count,
    FileVersion.warnings,
    FileVersion.blob,
    Job.id.label("job_id"),
    Job.state,
    Job.stage,
    Job.error,
)


@dataclass(frozen=True, slots=True)
class AddedFile:
    """The file and the job of an upload.

    Attributes:
        file_id: The file.
        job_id: The job that processes, or has processed, these bytes.
        deduplicated: Whether the same bytes already existed under the same external id.
    """

    file_id: uuid.UUID
    job_id: uuid.UUID
    deduplicated: bool


def add_file(
    connection: Connection,
    *,
    collection: RowMapping,
    name: str,
    blob: StoredBlob,
    max_attempts: int,
    max_pending: int,
    priority: int = INTERACTIVE_PRIORITY,
    external_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
) -> AddedFile:
    """Write an uploaded file and its job; after the caller's commit the upload may be acknowledged.

    The same bytes under the same external id are not processed again; other bytes become the file's next
    version, and the jobs of older versions are cancelled.

    Args:
        connection: The transaction.
        collection: A row of `get_collection`.
        name: The file's name, for people.
        blob: Its bytes, already durable.
        max_attempts: Most attempts of the job.
        max_pending: Most waiting jobs of the tenant.
        priority: Low runs first; see `emberq.store.jobs.fair_share`.
        external_id: The caller's own id of the file; a random one if left out.
        metadata: Returned with every search result of the file.
        idempotency_key: A repeated request with the same key gets the same answer.
        traceparent: W3C trace context of the upload.

    Raises:
        CollectionNotFound: If the collection was deleted since it was read.
        IdempotencyConflict: If the key was used for another upload.
        RateLimited: If the tenant has `max_pending` waiting jobs.
    """
    tenant = collection["tenant"]
    request = f"{collection['id']}/{external_id or name}/{blob.sha256}"
    if idempotency_key is not None:
        known = _claim_idempotency_key(connection, tenant, idempotency_key)
        if known is not None:
            if known.request != request:
                raise IdempotencyConflict
            return AddedFile(known.file_id, known.job_id, deduplicated=True)
    _lock_collection(connection, collection)
    file_id, version, existing_job = _add_version(
        connection, collection, name=name, blob=blob, external_id=external_id, metadata=metadata
    )
    if collection["kind"] == CollectionKind.EXTRACTION:
        # An extraction is kept for `extraction_ttl` after its last request.
        connection.execute(update(FileRow).where(FileRow.id == file_id).values(used_at=func.now()))
    if existing_job is not None:
        added = AddedFile(file_id, existing_job, deduplicated=True)
    else:
        if count_waiting(connection, tenant, most=max_pending) >= max_pending:
            raise RateLimited(f"{max_pending} jobs are waiting already.")
        job_id = uuid.uuid4()
        connection.execute(
            insert(Job).values(
                id=job_id,
                tenant=tenant,
                collection_id=collection["id"],
                file_id=file_id,
                version=version,
                max_attempts=max_attempts,
                priority=priority,
                traceparent=traceparent,
            )
        )
        added = AddedFile(file_id, job_id, deduplicated=False)
    if idempotency_key is not None:
        connection.execute(
            insert(IdempotencyKey).values(
                tenant=tenant,
                key=idempotency_key,
                request=request,
                file_id=added.file_id,
                job_id=added.job_id,
            )
        )
    return added


def _lock_collection(connection: Connection, collection: RowMapping) -> None:
    """Lock the collection against deletion until the caller's commit: the new rows refer to it."""
    locked = (
        select(Collection.id)
        .where(Collection.id == collection["id"])
        .with_for_update(read=True, key_share=True)
    )
    if connection.execute(locked).one_or_none() is None:
        raise CollectionNotFound(f"The collection {collection['name']!r} was deleted during the upload.")


def _claim_idempotency_key(connection: Connection, tenant: str, key: str) -> Any:
    # With this lock a second request with the same key waits for the commit of the first one.
    connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{tenant}/{key}", 0))))
    return connection.execute(
        select(IdempotencyKey.request, IdempotencyKey.file_id, IdempotencyKey.job_id).where(
            IdempotencyKey.tenant == tenant, IdempotencyKey.key == key
        )
    ).one_or_none()


def _add_version(
    connection: Connection,
    collection: RowMapping,
    *,
    name: str,
    blob: StoredBlob,
    external_id: str | None,
    metadata: dict[str, Any] | None,
) -> tuple[uuid.UUID, int, uuid.UUID | None]:
    """Return the file, its version for these bytes, and the job that already has these bytes, if any."""
    new_id = uuid.uuid4()
    if external_id is None:
        external_id = str(new_id)
    while (file := _lock_file(connection, collection, external_id)) is None:
        made = connection.execute(
            pg_insert(FileRow)
            .values(
                id=new_id,
                tenant=collection["tenant"],
                collection_id=collection["id"],
                external_id=external_id,
                name=name,
                meta=metadata or {},
            )
            .on_conflict_do_nothing(
                index_elements=["collection_id", "external_id"], index_where=FileRow.deleted_at.is_(None)
            )
            .returning(FileRow.id)
        ).one_or_none()
        if made is not None:
            _insert_version(connection, collection, new_id, 1, blob)
            return new_id, 1, None
        # Another transaction made the file a moment ago, and may have deleted it since: look again.
    newest = connection.execute(
        select(FileVersion.sha256, Job.id, Job.state, Job.cancel_requested_at)
        .join(Job, (Job.file_id == FileVersion.file_id) & (Job.version == FileVersion.version))
        .where(FileVersion.file_id == file.id, FileVersion.version == file.newest_version)
        .order_by(Job.created_at.desc())
        .limit(1)
    ).one()
    is_usable = newest.state == JobState.COMPLETED or (
        newest.state in LIVE_STATES and newest.cancel_requested_at is None
    )
    if newest.sha256 == blob.sha256 and is_usable:
        return file.id, file.newest_version, newest.id
    version = file.newest_version + 1
    connection.execute(
        update(FileRow)
        .where(FileRow.id == file.id)
        .values(newest_version=version, name=name, meta=metadata or {})
    )
    _insert_version(connection, collection, file.id, version, blob)
    cancel_jobs_of_file(connection, file.id, reason="A newer version of the file was uploaded.")
    return file.id, version, None


def _lock_file(connection: Connection, collection: RowMapping, external_id: str) -> Any:
    return connection.execute(
        select(FileRow.id, FileRow.newest_version)
        .where(
            FileRow.collection_id == collection["id"],
            FileRow.external_id == external_id,
            FileRow.deleted_at.is_(None),
        )
        .with_for_update(key_share=True)
    ).one_or_none()


def _insert_version(
    connection: Connection, collection: RowMapping, file_id: uuid.UUID, version: int, blob: StoredBlob
) -> None:
    connection.execute(
        insert(FileVersion).values(
            tenant=collection["tenant"],
            file_id=file_id,
            version=version,
            sha256=blob.sha256,
            size=blob.size,
            blob=blob.sha256,
        )
    )


def _select_files() -> Any:
    other = aliased(Job)
    newest_job = (
        select(other.id)
        # By version, not by time alone: of two concurrent uploads the later version may have begun first.
        .where(other.file_id == FileRow.id, other.version == FileRow.newest_version)
        .order_by(other.created_at.desc(), other.id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(*_columns)
        .join(Collection, Collection.id == FileRow.collection_id)
        .join(
            FileVersion,
            (FileVersion.file_id == FileRow.id) & (FileVersion.version == FileRow.newest_version),
        )
        .join(Job, Job.id == newest_job)
        .where(FileRow.deleted_at.is_(None))
    )


def get_file(connection: Connection, tenant: str, file_id: uuid.UUID) -> RowMapping:
    """Return a file with its newest version and the newest job of that.

    Raises:
        FileNotFound: If the tenant has no such file.
    """
    found: RowMapping | None = (
        connection.execute(_select_files().where(FileRow.tenant == tenant, FileRow.id == file_id))
        .mappings()
        .one_or_none()
    )
    if found is None:
        raise FileNotFound(f"There is no file {file_id}.")
    return found


def list_files(
    connection: Connection,
    collection: RowMapping,
    *,
    state: str | None = None,
    after: tuple[Any, uuid.UUID] | None = None,
    limit: int = 50,
) -> list[RowMapping]:
    """Return a page of a collection's files, oldest first.

    Args:
        connection: The transaction.
        collection: A row of `get_collection`.
        state: Only files whose newest job is in this state.
        after: `(created_at, id)` of the last file of the page before.
        limit: Most files to return.
    """
    statement = _select_files().where(FileRow.collection_id == collection["id"])
    if state is not None:
        statement = statement.where(Job.state == state)
    if after is not None:
        statement = statement.where(tuple_(FileRow.created_at, FileRow.id) > after)
    return list(
        connection.execute(statement.order_by(FileRow.created_at, FileRow.id).limit(limit)).mappings()
    )


def get_text(connection: Connection, tenant: str, file_id: uuid.UUID) -> str | None:
    """Return the extracted text of the file's visible version; nothing if no version is visible.

    Raises:
        FileNotFound: If the tenant has no such file.
    """
    get_file(connection, tenant, file_id)
    return connection.execute(
        select(FileVersion.text)
        .join(FileRow, (FileRow.id == FileVersion.file_id) & (FileRow.visible_version == FileVersion.version))
        .where(FileRow.id == file_id)
    ).scalar_one_or_none()


def delete_file(connection: Connection, tenant: str, file_id: uuid.UUID) -> None:
    """Delete a file's chunks and text; its row stays as a tombstone, so that a late commit is refused.

    Raises:
        FileNotFound: If the tenant has no such file.
    """
    deleted = connection.execute(
        update(FileRow)
        .where(FileRow.id == file_id, FileRow.tenant == tenant, FileRow.deleted_at.is_(None))
        .values(deleted_at=func.now(), visible_version=None)
    ).rowcount
    if not deleted:
        raise FileNotFound(f"There is no file {file_id}.")
    connection.execute(delete(ChunkRow).where(ChunkRow.file_id == file_id))
    connection.execute(
        update(FileVersion).where(FileVersion.file_id == file_id).values(text=None, pages=null())
    )
    cancel_jobs_of_file(connection, file_id, reason="The file was deleted.")
