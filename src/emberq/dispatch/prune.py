"""Retiring: what ended, or was asked for, longer ago than the settings say is deleted, a little at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from sqlalchemy import Connection

from emberq.store.files.embedding_cache import sweep_vectors
from emberq.store.files.extractions import purge_extractions
from emberq.store.jobs.retention import purge
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

__all__ = ["prune_extractions", "prune_jobs", "prune_vectors"]

log = get_logger(__name__)

#: Seconds one turn may take: the same thread beats for the host's lease, every two seconds.
_TURN_SECONDS = 0.5


def prune_jobs(services: Services, *, retention_seconds: float) -> int:
    """Delete what has been over for too long and return how many rows went; 0 seconds keep everything.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; the batches before are gone.
    """
    if retention_seconds == 0:
        return 0
    deadline = time.monotonic() + _TURN_SECONDS
    jobs = files = keys = 0
    while True:
        with services.database.transaction() as connection:
            gone = purge(connection, older_than_seconds=retention_seconds)
        jobs, files, keys = jobs + gone.jobs, files + gone.files, keys + gone.keys
        if not gone.is_full or time.monotonic() > deadline:
            break
    if jobs or files or keys:
        log.info("records_retired", jobs=jobs, files=files, idempotency_keys=keys)
    return jobs + files + keys


def prune_extractions(services: Services, *, ttl_seconds: float) -> int:
    """Delete the extractions that nobody asked for any more and return how many.

    Their bytes are collected later, like those of any deleted file.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; the batches before are gone.
    """
    files = _repeat(services, partial(purge_extractions, older_than_seconds=ttl_seconds))
    if files:
        log.info("extractions_retired", files=files)
    return files


def prune_vectors(services: Services, *, ttl_seconds: float, max_rows: int) -> int:
    """Delete the vectors that nobody asks for any more, or that are too many, and return how many.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer; the batches before are gone.
    """
    sweep = partial(sweep_vectors, older_than_seconds=ttl_seconds, max_rows=max_rows)
    vectors = _repeat(services, sweep)
    if vectors:
        log.info("vectors_retired", vectors=vectors)
    return vectors


def _repeat(services: Services, purge_batch: Callable[[Connection], int]) -> int:
    """Delete batch after batch until nothing is left or the turn is over, and return how many rows went."""
    deadline = time.monotonic() + _TURN_SECONDS
    rows = 0
    while True:
        with services.database.transaction() as connection:
            gone = purge_batch(connection)
        rows += gone
        if not gone or time.monotonic() > deadline:
            return rows
