"""Purge: delete ended jobs, audit entries, extractions and cached vectors that the settings call old.

Each run takes a bounded time: the same thread also renews the host's lease, every two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from emberq.store.admin.audit import purge_audit_batch
from emberq.store.files.embedding_cache import purge_vector_batch
from emberq.store.files.extractions import purge_extraction_batch
from emberq.store.jobs.retention import BATCH_ROWS, purge_batch
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds after which no further batch is begun.
_RUN_SECONDS = 0.5


def purge_ended_jobs(services: Services, *, retention_seconds: float, batch_rows: int = BATCH_ROWS) -> int:
    """Delete records of jobs, files and keys that ended long ago, and return how many rows were deleted.

    Args:
        services: The database.
        retention_seconds: The setting job_retention; 0 keeps everything.
        batch_rows: Rows of each kind that one transaction deletes.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; earlier batches are deleted.
    """
    if retention_seconds == 0:
        return 0
    deadline = time.monotonic() + _RUN_SECONDS
    jobs = files = keys = 0
    while True:
        with services.database.system_transaction() as connection:
            deleted = purge_batch(connection, older_than_seconds=retention_seconds, batch_rows=batch_rows)
        jobs, files, keys = jobs + deleted.jobs, files + deleted.files, keys + deleted.keys
        is_last = max(deleted.jobs, deleted.files, deleted.keys) < batch_rows
        if is_last or time.monotonic() > deadline:
            break
    if jobs or files or keys:
        log.info("records_purged", jobs=jobs, files=files, idempotency_keys=keys)
    return jobs + files + keys


def purge_audit_log(services: Services, *, retention_seconds: float) -> int:
    """Delete entries of the audit log that are older than `retention_seconds`, and return how many.

    Args:
        services: The database.
        retention_seconds: The setting audit_retention; 0 keeps everything.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; earlier batches are deleted.
    """
    if retention_seconds == 0:
        return 0
    entries = _repeat(services, partial(purge_audit_batch, older_than_seconds=retention_seconds))
    if entries:
        log.info("audit_log_purged", entries=entries)
    return entries


def purge_extractions(services: Services, *, ttl_seconds: float) -> int:
    """Delete the extractions whose last request is older than `ttl_seconds`, and return how many.

    Their bytes are garbage-collected later, like those of any deleted file.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; earlier batches are deleted.
    """
    files = _repeat(services, partial(purge_extraction_batch, older_than_seconds=ttl_seconds))
    if files:
        log.info("extractions_purged", files=files)
    return files


def purge_vectors(services: Services, *, ttl_seconds: float, max_rows: int) -> int:
    """Delete the cached vectors that are unused for `ttl_seconds` or beyond `max_rows`, and return how many.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; earlier batches are deleted.
    """
    batch = partial(purge_vector_batch, older_than_seconds=ttl_seconds, max_rows=max_rows)
    vectors = _repeat(services, batch)
    if vectors:
        log.info("vectors_purged", vectors=vectors)
    return vectors


def _repeat(services: Services, purge_one_batch: Callable[[Connection], int]) -> int:
    """Delete batch after batch until none is left or the time is over; return the number of rows."""
    deadline = time.monotonic() + _RUN_SECONDS
    rows = 0
    while True:
        with services.database.system_transaction() as connection:
            deleted = purge_one_batch(connection)
        rows += deleted
        if not deleted or time.monotonic() > deadline:
            return rows
