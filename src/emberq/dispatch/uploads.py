"""Uploads: received bytes become a durable file with a job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping

from emberq.config.current import get_worker_config
from emberq.dispatch.admit import admit_soon
from emberq.errors import EmptyFile
from emberq.store.files.add import AddedFile, UploadOutcome, add_file
from emberq.store.files.blob_gc import lock_blob_shared
from emberq.store.files.blobs import BlobWriter
from emberq.store.jobs.fair_share import INTERACTIVE_PRIORITY
from emberq.store.services import Services


def accept_upload(
    services: Services,
    writer: BlobWriter,
    *,
    collection: RowMapping,
    name: str,
    external_id: str | None = None,
    metadata: dict[str, Any] | None = None,
    source: str | None = None,
    priority: int = INTERACTIVE_PRIORITY,
    idempotency_key: str | None = None,
    traceparent: str | None = None,
) -> AddedFile:
    """Store a received file and its job in one transaction, and admit the job.

    When this returns, the bytes and the rows are durable: the upload may be acknowledged. Calling it
    again with the same writer, after a failure of PostgreSQL, finds what the first call stored.

    Args:
        services: Where bytes and job are stored.
        writer: The bytes, completely received.
        collection: Row of `get_collection` or `extraction_collection`.
        name: The file's name, for people.
        external_id: The caller's own id of the file; a random one if left out.
        metadata: Returned with every search result of the file; an existing file keeps its own if left out.
        source: Where the file comes from; an existing file keeps its own if left out.
        priority: Low runs first; see `emberq.store.jobs.fair_share`.
        idempotency_key: A repeated request with the same key gets the same answer.
        traceparent: W3C trace context of the request.

    Raises:
        CollectionNotFound: If the collection was deleted since it was read.
        DatabaseUnavailable: If PostgreSQL does not answer.
        EmptyFile: If there are no bytes.
        IdempotencyConflict: If the key was used for another upload.
        RateLimited: If the tenant has `tenant_max_pending` waiting jobs.
        StorageUnavailable: If the blob store does not work.
    """
    if writer.size == 0:
        raise EmptyFile(f"{name} has no bytes.")
    settings = get_worker_config().for_tenant(collection["tenant"])
    blob = writer.seal()
    with services.database.tenant_transaction(collection["tenant"]) as connection:
        # The garbage collector takes this lock exclusively: from here to the commit it cannot delete the
        # bytes, and after the commit it sees the row that refers to them.
        lock_blob_shared(connection, blob.sha256)
        writer.publish()
        added = add_file(
            connection,
            collection=collection,
            name=name,
            blob=blob,
            external_id=external_id,
            metadata=metadata,
            source=source,
            max_attempts=settings.job_max_attempts,
            max_pending=settings.tenant_max_pending,
            priority=priority,
            idempotency_key=idempotency_key,
            traceparent=traceparent,
        )
    if not added.deduplicated or added.outcome is UploadOutcome.RETRIED:
        admit_soon(services)
    return added
