"""The steps of a file's life, each in a transaction of its own, as the processes of emberq take them."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import numpy as np
from sqlalchemy import RowMapping, select

from emberq.errors import CollectionNotFound, EmberqError
from emberq.store.files.add import AddedFile, add_file
from emberq.store.files.blobs import StoredBlob
from emberq.store.files.collections import create_collection, get_collection
from emberq.store.files.commit import ChunkValues, commit_file
from emberq.store.files.files import delete_file
from emberq.store.jobs.admission import admit_jobs
from emberq.store.jobs.claim import Attempt, claim_job
from emberq.store.jobs.finish import fail_attempt
from emberq.store.jobs.queries import cancel_job, get_job
from emberq.store.schema.tables import ChunkRow
from emberq.store.services import Services

__all__ = [
    "TENANT",
    "add",
    "blob",
    "cancel",
    "chunk_texts",
    "claim",
    "collection_of",
    "commit",
    "delete",
    "fail",
    "job",
    "values_of",
]

TENANT = "default"


def blob(content: str) -> StoredBlob:
    return StoredBlob(hashlib.sha256(content.encode()).hexdigest(), len(content))


def collection_of(services: Services, tenant: str = TENANT) -> RowMapping:
    """Return the tenant's collection `docs`, made when it is not there."""
    with services.database.system_transaction() as connection:
        try:
            return get_collection(connection, tenant, "docs")
        except CollectionNotFound:
            return create_collection(connection, tenant, "docs", embedding_model="m")


def add(services: Services, content: str = "one", *, tenant: str = TENANT, **options: Any) -> AddedFile:
    collection = options.pop("collection", None) or collection_of(services, tenant)
    with services.database.system_transaction() as connection:
        return add_file(
            connection,
            collection=collection,
            name=options.pop("name", "a.txt"),
            blob=blob(content),
            max_attempts=options.pop("max_attempts", 3),
            max_pending=options.pop("max_pending", 100),
            **options,
        )


def claim(services: Services, job_id: uuid.UUID, *, worker: str = "w") -> Attempt:
    with services.database.system_transaction() as connection:
        admit_jobs(connection, limit=10)
        ticket = get_job(connection, TENANT, job_id)["ticket"]
        attempt = claim_job(connection, job_id, ticket=ticket, worker=worker, host_id=None)
    assert attempt is not None
    return attempt


def values_of(texts: list[str]) -> list[ChunkValues]:
    return [
        ChunkValues(n, text, 0, len(text), 1, None, bytes([n]), np.full(384, n + 1, dtype=np.float32))
        for n, text in enumerate(texts)
    ]


def commit(services: Services, attempt: Attempt, texts: list[str], **options: Any) -> None:
    with services.database.system_transaction() as connection:
        commit_file(
            connection,
            attempt,
            text=" ".join(texts),
            media_type="text/plain",
            page_count=1,
            chunks=values_of(texts),
            timings={},
            **options,
        )


def job(services: Services, job_id: uuid.UUID, *, tenant: str = TENANT) -> dict[str, Any]:
    with services.database.system_transaction() as connection:
        return get_job(connection, tenant, job_id)


def chunk_texts(services: Services) -> list[str]:
    with services.database.system_transaction() as connection:
        return list(connection.execute(select(ChunkRow.text).order_by(ChunkRow.ordinal)).scalars())


def fail(services: Services, attempt: Attempt, error: EmberqError) -> str | None:
    with services.database.system_transaction() as connection:
        return fail_attempt(connection, attempt.job_id, error, fence=attempt.fence, retry_delay_seconds=60)


def cancel(services: Services, job_id: uuid.UUID) -> dict[str, Any]:
    with services.database.system_transaction() as connection:
        return cancel_job(connection, TENANT, job_id)


def delete(services: Services, file_id: uuid.UUID) -> None:
    with services.database.system_transaction() as connection:
        delete_file(connection, TENANT, file_id)
