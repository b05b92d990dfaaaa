"""Interception of Open WebUI's functions: what emberq adds to its processing while a job runs.

Open WebUI's retrieval modules find four things by name: the table of files, the function that makes an
embedding function, the function that sends texts to an OpenAI-compatible server, and the function that
returns the vector client. Each is replaced once by a wrapper. During a job, a wrapper retries transient
errors, reports progress, stops when the attempt has lost its file, sends a tenant's texts through the
outbound door, and replaces old chunks after the new ones are stored. Without a job it calls the original
only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from emberq.errors import DatabaseUnavailable
from emberq.openwebui.worker.chunks import ReplacingVectorClient
from emberq.openwebui.worker.embedding import embed_batch, embed_for_tenant
from emberq.openwebui.worker.file_attempt import FileAttempt, current_attempt
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI

#: Embedding requests of one file at a time if Open WebUI sets no limit; it would send all at once.
_MAX_REQUESTS = 64


def intercept(open_webui: InstalledOpenWebUI) -> None:
    """Replace the four names in Open WebUI's retrieval modules; called once, before the fork."""
    module = open_webui.retrieval
    original_embedding, original_client = module.get_embedding_function, module.get_vector_db_client

    def get_embedding_function(*args: Any, **kwargs: Any) -> Any:
        embed, attempt = original_embedding(*args, **kwargs), current_attempt()
        return embed if attempt is None else _intercept_embedding(attempt, embed, args, kwargs)

    def get_vector_db_client() -> Any:
        client, attempt = original_client(), current_attempt()
        return client if attempt is None else ReplacingVectorClient(client, attempt)

    original_send = open_webui.embeddings.agenerate_openai_batch_embeddings

    async def agenerate_openai_batch_embeddings(
        model: str,
        texts: list[str],
        url: str = "",
        key: str = "",
        prefix: str | None = None,
        user: Any = None,
    ) -> Any:
        attempt = current_attempt()
        if attempt is None or attempt.tenant is None:
            return await original_send(model, texts, url, key, prefix, user)
        field = open_webui.embeddings.RAG_EMBEDDING_PREFIX_FIELD_NAME
        more = {field: prefix} if field and prefix is not None else {}
        return await asyncio.to_thread(embed_for_tenant, model, texts, url, key, prefix=more)

    open_webui.embeddings.agenerate_openai_batch_embeddings = agenerate_openai_batch_embeddings
    module.get_embedding_function = get_embedding_function
    module.get_vector_db_client = get_vector_db_client
    module.Files = _Files(open_webui.Files)


class _Files:
    """Open WebUI's table of files; during a job it leaves statuses to the job and detects lost writes."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    async def update_file_data_by_id(self, id: str, data: dict[str, Any], db: Any = None) -> Any:  # noqa: A002 - its name
        """Write a file's data, without status and error: the job writes them, as it knows of retries."""
        attempt = current_attempt()
        if attempt is None:
            return await self._files.update_file_data_by_id(id, data, db=db)
        data = {key: value for key, value in data.items() if key not in ("status", "error")}
        if not data:
            return None
        return await self._write(
            attempt, lambda session: self._files.update_file_data_by_id(id, data, db=session), db
        )

    async def update_file_metadata_by_id(self, id: str, meta: dict[str, Any], db: Any = None) -> Any:  # noqa: A002 - its name
        """Write a file's metadata."""
        attempt = current_attempt()
        if attempt is None:
            return await self._files.update_file_metadata_by_id(id, meta, db=db)
        return await self._write(
            attempt, lambda session: self._files.update_file_metadata_by_id(id, meta, db=session), db
        )

    async def _write(self, attempt: FileAttempt, write: Callable[[Any], Awaitable[Any]], db: Any) -> Any:
        """Write, and once more in a new session if the first write was lost; a second loss is an error."""
        written = await write(db)
        if written is not None:
            return written
        with attempt.recording_failure():
            # Raises if the write was lost because the file was deleted.
            await asyncio.to_thread(attempt.check_owner, now=True)
            written = await write(None)
            if written is None:
                raise DatabaseUnavailable("Open WebUI's database did not store the file's text.")
        return written


def _intercept_embedding(
    attempt: FileAttempt, embed: Any, args: Sequence[Any], kwargs: dict[str, Any]
) -> Any:
    """Return an embedding function that sends a file's texts in batches, each with retries.

    Of the arguments that it was made with, the engine is the first and the batch size the sixth.
    """
    engine, batch_size = str(args[0]), max(int(args[5]), 1)
    limit = int(kwargs.get("concurrent_requests") or 0) or _MAX_REQUESTS
    if not kwargs.get("enable_async", True):
        limit = 1

    async def embedding_function(query: Any, prefix: str | None = None, user: Any = None) -> Any:
        if not isinstance(query, list):
            return await embed(query, prefix=prefix, user=user)
        batches = [query[start : start + batch_size] for start in range(0, len(query), batch_size)]
        attempt.report(0, len(query), "embedding")
        permits, done = asyncio.Semaphore(limit), 0

        async def send(batch: list[str]) -> Any:
            nonlocal done
            async with permits:
                if attempt.is_check_due:
                    await asyncio.to_thread(attempt.check_owner)
                vectors = await embed_batch(lambda: embed(batch, prefix=prefix, user=user), engine=engine)
            done += len(batch)
            attempt.report(done, len(query), "embedding")
            return vectors

        with attempt.recording_failure():
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(send(batch)) for batch in batches]
            except ExceptionGroup as failed:
                raise _first(failed) from None
        return [vector for task in tasks for vector in task.result()]

    return embedding_function


def _first(failed: ExceptionGroup[Exception]) -> Exception:
    """Return the first of several errors; the others mostly follow from it."""
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first
