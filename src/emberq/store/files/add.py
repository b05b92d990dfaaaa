"""Uploads in the database: a file, its next version, and the job for it, or what is there already."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from emberq.errors import CollectionNotFound, IdempotencyConflict, RateLimited
from emberq.store.files.blobs import StoredBlob
from emberq.store.jobs.admission import count_waiting
from emberq.store.jobs.fair_share import INTERACTIVE_PRIORITY
from emberq.store.jobs.queries import cancel_jobs_of_file, retry_where
from emberq.store.schema.job_states import LIVE_STATES, RETRY, JobState
from emberq.store.schema.tables import (
    Collection,
    CollectionKind,
    FileRow,
    FileVersion,
    IdempotencyKey,
    Job,
)


class UploadOutcome(StrEnum):
    """What an upload did."""

    #: A new file.
    CREATED = "created"
    #: The bytes became the file's next version.
    REPLACED = "replaced"
    #: The file has these bytes already; its name or metadata changed.
    UPDATED = "updated"
    #: The file has these bytes, this name and this metadata already.
    UNCHANGED = "unchanged"
    #: The file has these bytes already, and their job, which had failed or was cancelled, runs again.
    RETRIED = "retried"


@dataclass(frozen=True, slots=True)
class AddedFile:
    """The file and the job of an upload.

    Attributes:
        file_id: The file.
        job_id: The job that processes, or has processed, these bytes.
        outcome: What the upload did.
    """

    file_id: uuid.UUID
    job_id: uuid.UUID
    outcome: UploadOutcome

    @property
    def deduplicated(self) -> bool:
        """Whether the file had these bytes already."""
        return self.outcome not in (UploadOutcome.CREATED, UploadOutcome.REPLACED)


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
    source: str | None = None,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
) -> AddedFile:
    """Write an uploaded file and its job; after the caller's commit the upload may be acknowledged.

    The same bytes under the same external id are not processed again, unless their job failed or was
    cancelled; then it is retried, but not from quarantine. Other bytes become the file's next version, and
    the jobs of older versions are cancelled. Either way the file gets the name, and the metadata if given.

    Args:
        connection: The transaction.
        collection: A row of `get_collection`.
        name: The file's name, for people.
        blob: Its bytes, already durable.
        max_attempts: Most attempts of the job.
        max_pending: Most waiting jobs of the tenant.
        priority: Low runs first; see `emberq.store.jobs.fair_share`.
        external_id: The caller's own id of the file; a random one if left out.
        metadata: Returned with every search result of the file; an existing file keeps its own if left out.
        source: Where the file comes from, such as a folder; an existing file keeps its own if left out.
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
            return AddedFile(known.file_id, known.job_id, UploadOutcome.UNCHANGED)
    _lock_collection(connection, collection)
    file_id, version, existing_job, outcome = _add_version(
        connection, collection, blob, external_id=external_id, name=name, metadata=metadata, source=source
    )
    if collection["kind"] == CollectionKind.EXTRACTION:
        # An extraction is kept for `extraction_ttl` after its last request.
        connection.execute(update(FileRow).where(FileRow.id == file_id).values(used_at=func.now()))
    job_id = existing_job or uuid.uuid4()
    adds_work = existing_job is None or outcome is UploadOutcome.RETRIED
    # One more than before, if it was counted already.
    most = max_pending + (outcome is UploadOutcome.RETRIED)
    if adds_work and count_waiting(connection, tenant, most=most) >= most:
        raise RateLimited(f"{max_pending} jobs are waiting already.")
    if existing_job is None:
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
    if idempotency_key is not None:
        connection.execute(
            insert(IdempotencyKey).values(
                tenant=tenant,
                key=idempotency_key,
                request=request,
                file_id=file_id,
                job_id=job_id,
            )
        )
    return AddedFile(file_id, job_id, outcome)


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
    blob: StoredBlob,
    *,
    external_id: str | None,
    name: str,
    metadata: dict[str, Any] | None,
    source: str | None,
) -> tuple[uuid.UUID, int, uuid.UUID | None, UploadOutcome]:
    """Return the file, its version for these bytes, their job if there is one, and what was done."""
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
                source=source,
            )
            .on_conflict_do_nothing(
                index_elements=["collection_id", "external_id"], index_where=FileRow.deleted_at.is_(None)
            )
            .returning(FileRow.id)
        ).one_or_none()
        if made is not None:
            _insert_version(connection, collection, new_id, 1, blob)
            return new_id, 1, None, UploadOutcome.CREATED
        # Another transaction made the file a moment ago, and may have deleted it since: look again.
    changes = {
        column: value
        for column, value, old in (
            ("name", name, file.name),
            ("meta", metadata, file.meta),
            ("source", source, file.source),
        )
        # As JSON: in Python 1 is equal to True.
        if value is not None and json.dumps(value, sort_keys=True) != json.dumps(old, sort_keys=True)
    }
    # An extraction belongs to all requests for the same bytes: it keeps what the first one said.
    is_document = collection["kind"] == CollectionKind.DOCUMENTS
    job_id, outcome = _find_job(connection, file, blob, may_retry=is_document)
    if job_id is not None:
        if is_document and changes:
            connection.execute(update(FileRow).where(FileRow.id == file.id).values(**changes))
            if outcome is UploadOutcome.UNCHANGED and changes.keys() & {"name", "meta"}:
                outcome = UploadOutcome.UPDATED
        return file.id, file.newest_version, job_id, outcome
    version = file.newest_version + 1
    connection.execute(update(FileRow).where(FileRow.id == file.id).values(newest_version=version, **changes))
    _insert_version(connection, collection, file.id, version, blob)
    cancel_jobs_of_file(connection, file.id, reason="A newer version of the file was uploaded.")
    return file.id, version, None, outcome


def _find_job(
    connection: Connection, file: Any, blob: StoredBlob, *, may_retry: bool
) -> tuple[uuid.UUID | None, UploadOutcome]:
    """Return the job of the newest version if that has these bytes and need not be uploaded again."""
    newest = connection.execute(
        select(FileVersion.sha256, Job.id, Job.state, Job.cancel_requested_at, Job.quarantined)
        .join(Job, (Job.file_id == FileVersion.file_id) & (Job.version == FileVersion.version))
        .where(FileVersion.file_id == file.id, FileVersion.version == file.newest_version)
        .order_by(Job.created_at.desc())
        .limit(1)
    ).one()
    if newest.sha256 != blob.sha256:
        return None, UploadOutcome.REPLACED
    if newest.state == JobState.COMPLETED or (
        newest.state in LIVE_STATES and newest.cancel_requested_at is None
    ):
        return newest.id, UploadOutcome.UNCHANGED
    if may_retry and newest.state in RETRY.sources:
        # Only a person retries from quarantine: these bytes ended several workers.
        if newest.quarantined:
            return newest.id, UploadOutcome.UNCHANGED
        retry_where(connection, Job.id == newest.id)
        return newest.id, UploadOutcome.RETRIED
    return None, UploadOutcome.REPLACED


def _lock_file(connection: Connection, collection: RowMapping, external_id: str) -> Any:
    return connection.execute(
        select(FileRow.id, FileRow.newest_version, FileRow.name, FileRow.meta.label("meta"), FileRow.source)
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
