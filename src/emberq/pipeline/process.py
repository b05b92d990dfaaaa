"""The job function: claims a job, reads its file, and commits the file's chunks or pages."""

from __future__ import annotations

import hashlib
import os
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rq import get_current_job
from rq.timeouts import JobTimeoutException

from emberq.config.current import get_worker_config
from emberq.config.runtime import RuntimeSettings
from emberq.errors import (
    BlobMissing,
    DatabaseUnavailable,
    EmberqError,
    FileTooLarge,
    InternalError,
    JobTimeout,
    MemoryLimitExceeded,
    StorageUnavailable,
)
from emberq.models.embedder import Embedder
from emberq.pipeline.budget import Budget
from emberq.pipeline.document import Chunk, Document
from emberq.pipeline.extract.layout import ocr
from emberq.pipeline.markdown_pages import to_markdown
from emberq.pipeline.outages import is_outage, retry_during_outage, retry_forever
from emberq.pipeline.resources import get_embedder
from emberq.pipeline.sandbox.run import extract_sandboxed
from emberq.pipeline.split import embedding_text, split
from emberq.pipeline.stages import Stages
from emberq.store.files.commit import ChunkValues, commit_file, known_vectors
from emberq.store.files.extractions import MAX_EXTRACTED_CHARACTERS, PageRange
from emberq.store.jobs.claim import Attempt, LeaseLost, claim_job, is_completed
from emberq.store.jobs.finish import fail_attempt
from emberq.store.schema.job_states import ENDED_STATES
from emberq.store.schema.tables import CollectionKind
from emberq.store.services import Services, get_services
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger
from emberq.worker.job.progress import progress, progress_to
from emberq.worker.job.scope import job_scope

log = get_logger(__name__)


def process_file(job_id: str) -> str:
    """Process the file of a job; every ticket names this function.

    Args:
        job_id: The job in PostgreSQL. The id of the ticket shows that the ticket is the job's current one.

    Returns:
        The job's state afterwards; `stale` if the ticket is not the job's current one; `lease_lost` if the
        job was taken over.
    """
    metrics.leave_count_to_job()
    services = get_services()
    ticket, host_id = get_current_job(), os.environ.get("EMBERQ_HOST_ID")
    attempt = _claim(
        services,
        uuid.UUID(job_id),
        ticket=ticket.id if ticket else "",
        worker=os.environ.get("RQ_WORKER_ID", ""),
        host_id=uuid.UUID(host_id) if host_id else None,
    )
    if attempt is None:
        log.info("ticket_stale", job=job_id)
        return "stale"
    with job_scope(
        job=job_id,
        tenant=attempt.tenant,
        file=attempt.file_name,
        attempt=attempt.attempt,
        fence=attempt.fence,
        trace=_trace_id(attempt.traceparent),
    ):
        return _run(services, attempt)


def _trace_id(traceparent: str | None) -> str | None:
    """Return the trace id of a W3C trace context: version, trace id, parent id and flags."""
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) >= 4 else None  # noqa: PLR2004 - the four parts of the format


def _claim(
    services: Services, job_id: uuid.UUID, *, ticket: str, worker: str, host_id: uuid.UUID | None
) -> Attempt | None:
    try:
        return _claim_once(services, job_id, ticket=ticket, worker=worker, host_id=host_id)
    except DatabaseUnavailable as exc:
        # The claim may be committed although its answer was lost. A second claim would find the ticket used,
        # and no worker would process the job: so this attempt is ended by its ticket.
        _end_unknown_claim(services, job_id, exc, ticket=ticket)
        raise


@retry_forever
def _end_unknown_claim(
    services: Services, job_id: uuid.UUID, error: DatabaseUnavailable, *, ticket: str
) -> None:
    with services.database.system_transaction() as connection:
        # An outage: the file was not touched.
        fail_attempt(connection, job_id, error, ticket=ticket, retry_delay_seconds=0.0, is_outage=True)


@retry_during_outage(idempotent=False)
def _claim_once(
    services: Services, job_id: uuid.UUID, *, ticket: str, worker: str, host_id: uuid.UUID | None
) -> Attempt | None:
    with services.database.system_transaction() as connection:
        return claim_job(connection, job_id, ticket=ticket, worker=worker, host_id=host_id)


def _run(services: Services, attempt: Attempt) -> str:
    started = time.monotonic()
    settings = get_worker_config(version=attempt.config_version).for_tenant(attempt.tenant)
    stages = Stages(services, attempt)
    log.info(
        "job_started",
        version=attempt.version,
        config_version=attempt.config_version,
        horse_pid=os.getpid(),
    )
    try:
        with progress_to(stages.report):
            _process(services, attempt, settings, stages)
    except LeaseLost:
        if not _is_completed(services, attempt):
            log.warning("lease_lost", stage=stages.stage)
            return "lease_lost"
    except (Exception, JobTimeoutException) as exc:  # noqa: BLE001 - every end is recorded
        error = _as_error(exc)
        state = _fail(services, attempt, settings, error, stages.stage)
        stages.count()
        metrics.observe_attempt(seconds=time.monotonic() - started)
        if state in ENDED_STATES:
            metrics.count_job(state=state, error_code=error.code)
        return state
    stages.count()
    seconds = time.monotonic() - started
    metrics.observe_attempt(seconds=seconds)
    metrics.count_job(state="completed")
    log.info("job_completed", seconds=round(seconds, 3), stages=stages.timings)
    return "completed"


def _process(services: Services, attempt: Attempt, settings: RuntimeSettings, stages: Stages) -> None:
    progress(0, 1, stage="extracting")
    path = services.blobs.existing(attempt.blob)
    budget = _budget(path, attempt, settings)
    document = extract_sandboxed(
        path,
        name=attempt.file_name,
        timeout_seconds=min(budget.timeout_seconds, settings.job_timeout),
        cpu_seconds=budget.cpu_seconds,
        memory_bytes=budget.memory_bytes,
        factor=budget.factor,
        ocr_seconds=budget.ocr_seconds,
        hidden=settings.read_hidden,
        progress=progress,
    )
    if attempt.kind == CollectionKind.EXTRACTION:
        progress(0, 1, stage="storing")
        markdown, pages = to_markdown(document)
        if len(markdown) > MAX_EXTRACTED_CHARACTERS:
            raise FileTooLarge(
                f"The text has {len(markdown):,} characters, more than {MAX_EXTRACTED_CHARACTERS:,}: too many"
                " for one answer.",
                hint="Split the file, or put it into a collection.",
            )
        _commit(services, attempt, replace(document, text=markdown, segments=()), [], stages, pages=pages)
        return
    progress(0, 1, stage="splitting")
    embedder = get_embedder(attempt.embedding_model)
    chunk_size = min(settings.rag_chunk_size, embedder.max_tokens - 2)
    chunks = split(
        document,
        embedder.tokenizer,
        chunk_size=chunk_size,
        chunk_overlap=settings.rag_chunk_overlap,
        max_chunks=budget.max_chunks(len(document.text), chunk_size=chunk_size),
        check=budget.for_splitting(len(document.text)).check,
    )
    progress(0, len(chunks), stage="embedding")
    chunk_values = _embed(
        services,
        attempt,
        embedder,
        chunks,
        batch_size=settings.rag_embedding_batch_size,
        check=budget.for_embedding(len(chunks)).check,
    )
    progress(0, len(chunks), stage="storing")
    _commit(services, attempt, document, chunk_values, stages)
    for warning in document.warnings:
        metrics.count_file_warning(code=warning.code)


def _budget(path: Path, attempt: Attempt, settings: RuntimeSettings) -> Budget:
    try:
        return Budget.of(path, factor=settings.file_budget, ocr=settings.ocr_enabled and ocr.is_installed())
    except FileNotFoundError as exc:
        raise BlobMissing(f"The stored bytes of {attempt.file_name} are gone.") from exc
    except OSError as exc:
        raise StorageUnavailable(
            f"The stored bytes of {attempt.file_name} cannot be read: {exc.strerror}."
        ) from exc


def _embed(
    services: Services,
    attempt: Attempt,
    embedder: Embedder,
    chunks: list[Chunk],
    *,
    batch_size: int,
    check: Callable[[], None],
) -> list[ChunkValues]:
    """Return the chunks with their vectors; texts that the tenant had embedded before are not computed."""
    texts = [embedding_text(chunk, embedder.tokenizer, max_tokens=embedder.max_tokens) for chunk in chunks]
    fingerprints = [hashlib.sha256(f"{embedder.fingerprint}\0{text}".encode()).digest() for text in texts]
    vectors = _find_vectors(services, attempt, fingerprints)
    missing = {mark: text for mark, text in zip(fingerprints, texts, strict=True) if mark not in vectors}
    done = len(chunks) - len(missing)
    metrics.count_vector_lookups(hits=done, misses=len(missing))

    def report(embedded: int, _total: int) -> None:
        check()
        progress(done + embedded, len(chunks), stage="embedding")

    made = embedder.embed(
        list(missing.values()),
        max_batch=batch_size,
        progress=report,
    )
    vectors.update(zip(missing, made, strict=True))
    return [
        ChunkValues(
            chunk.ordinal,
            chunk.text,
            chunk.start,
            chunk.end,
            chunk.page,
            chunk.heading,
            mark,
            vectors[mark],
            chunk.header,
        )
        for chunk, mark in zip(chunks, fingerprints, strict=True)
    ]


@retry_during_outage()
def _find_vectors(
    services: Services, attempt: Attempt, fingerprints: list[bytes]
) -> dict[bytes, NDArray[np.float32]]:
    with services.database.tenant_transaction(attempt.tenant) as connection:
        return known_vectors(connection, attempt.tenant, fingerprints)


@retry_forever
def _is_completed(services: Services, attempt: Attempt) -> bool:
    with services.database.tenant_transaction(attempt.tenant) as connection:
        return is_completed(connection, attempt)


@retry_during_outage()  # a second commit finds the lease ended and changes nothing
def _commit(
    services: Services,
    attempt: Attempt,
    document: Document,
    values: list[ChunkValues],
    stages: Stages,
    *,
    pages: Sequence[PageRange] | None = None,
) -> None:
    with services.database.tenant_transaction(attempt.tenant) as connection:
        commit_file(
            connection,
            attempt,
            text=document.text,
            media_type=document.media_type,
            page_count=document.page_count,
            chunks=values,
            timings=stages.measure(),
            pages=pages,
            warnings=document.warnings,
        )


@retry_forever  # a second call finds the fence ended and changes nothing
def _fail(
    services: Services, attempt: Attempt, settings: RuntimeSettings, error: EmberqError, stage: str | None
) -> str:
    detail = error.context.get("detail")
    with services.database.tenant_transaction(attempt.tenant) as connection:
        state = fail_attempt(
            connection,
            attempt.job_id,
            error,
            fence=attempt.fence,
            retry_delay_seconds=settings.job_retry_delay,
            stage=stage,
            detail=str(detail) if detail else None,
            is_outage=is_outage(error),
        )
    log.warning("attempt_failed", error_code=error.code, error=error.message, stage=stage, state=state)
    return state or "lease_lost"


def _as_error(exc: BaseException) -> EmberqError:
    if isinstance(exc, EmberqError):
        return exc
    if isinstance(exc, JobTimeoutException):
        return JobTimeout()
    if isinstance(exc, MemoryError):
        return MemoryLimitExceeded()
    return InternalError(
        f"Processing the file failed with {type(exc).__name__}.",
        detail="".join(traceback.format_exception(exc)),
    )
