"""The warm-up of the document pipeline: the preloader takes a small text through it before the fork.

As in `emberq.worker.supervisor.warmup`, the caches that it fills and the code that the interpreter rewrites
are then shared by all horses, which saves about 6 MB in each.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from emberq.config.runtime import RuntimeSettings
from emberq.models.embedder import Embedder
from emberq.pipeline.sandbox.run import extract_sandboxed
from emberq.pipeline.split import embedding_text, split
from emberq.store.files.commit import commit_file, known_vectors
from emberq.store.jobs.claim import Attempt, LeaseLost, claim_job, record_progress
from emberq.store.services import Services
from emberq.worker.supervisor.warmup import WARMUP_RUNS

#: A few short paragraphs, to be split.
_TEXT = "\n\n".join(f"# Part {number}\n\nA worker that is warm answers at once." for number in range(4))
#: What reading them may take; far more than is needed.
_READ_SECONDS = 60.0
_READ_MEMORY_BYTES = 1 << 28
#: An id that no row has.
_NO_ID = uuid.UUID(int=0)
#: An attempt of no job: statements for it change nothing.
_NO_ATTEMPT = Attempt(
    job_id=_NO_ID,
    tenant="",
    collection_id=_NO_ID,
    embedding_model="",
    index_version=0,
    file_id=_NO_ID,
    file_name="",
    version=0,
    blob="",
    attempt=1,
    max_attempts=1,
    fence=0,
    config_version=0,
    traceparent=None,
)


def warm_up_document(
    services: Services, embedder: Embedder, settings: RuntimeSettings, *, runs: int = WARMUP_RUNS
) -> None:
    """Take a small text through the stages a few times; nothing is stored.

    Args:
        services: The database that gets the stages' statements.
        embedder: The default embedding model.
        settings: The settings for splitting.
        runs: How often.

    Raises:
        DatabaseUnavailable: If PostgreSQL does not answer.
        InternalError: If no reader can be started.
    """
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "warm-up.md"
        path.write_text(_TEXT, encoding="utf-8")
        for _ in range(runs):
            _run_once(services, embedder, settings, path)


def _run_once(services: Services, embedder: Embedder, settings: RuntimeSettings, path: Path) -> None:
    with services.database.system_transaction() as connection:
        claim_job(connection, _NO_ID, ticket="", worker="", host_id=None)
    document = extract_sandboxed(
        path, name=path.name, timeout_seconds=_READ_SECONDS, memory_bytes=_READ_MEMORY_BYTES
    )
    chunks = split(
        document,
        embedder.tokenizer,
        chunk_size=settings.rag_chunk_size,
        chunk_overlap=settings.rag_chunk_overlap,
    )
    embedder.warm_up(
        [embedding_text(chunk, embedder.tokenizer, max_tokens=embedder.max_tokens) for chunk in chunks]
    )
    with services.database.tenant_transaction(_NO_ATTEMPT.tenant) as connection:
        known_vectors(connection, _NO_ATTEMPT.tenant, [])
    for write in (_write_progress, _write_result):
        try:
            write(services)
        except LeaseLost:
            continue


def _write_progress(services: Services) -> None:
    with services.database.tenant_transaction(_NO_ATTEMPT.tenant) as connection:
        record_progress(connection, _NO_ATTEMPT, stage="embedding", done=0, total=1, timings={})


def _write_result(services: Services) -> None:
    with services.database.tenant_transaction(_NO_ATTEMPT.tenant) as connection:
        commit_file(connection, _NO_ATTEMPT, text="", media_type="", page_count=None, chunks=(), timings={})
