"""Where Open WebUI's processing touches the world, and what stands there while a job runs.

Its module of the processing finds three things by name: the table of files, the function that makes an
embedding function, and the vector client. During a job each is covered by one of ours, which does the same
and besides: tries again what is transient, tells of progress, stops when the job has lost its file, and
replaces a file's old chunks only after the new ones are in. Without a job they are what they were.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from emberq.errors import Cancelled, DatabaseUnavailable, EmberqError
from emberq.openwebui.worker.embedding import embed_batch
from emberq.openwebui.worker.installed_modules import InstalledOpenWebUI
from emberq.openwebui.worker.rows import OpenWebUIFileRows, retry_open_webui
from emberq.worker.job.progress import progress

__all__ = ["FileAttempt", "intercept", "running"]

#: Requests of one file on their way at a time where Open WebUI sets no limit: it would send all at once.
_MAX_REQUESTS = 64
#: Seconds between two looks whether the attempt still has its file.
_LOOK_SECONDS = 1.0
#: Ids deleted in one statement.
_MAX_IDS = 1000

#: The attempt that this process is busy with; a horse runs one at a time.
_attempt: FileAttempt | None = None


class FileAttempt:
    """One attempt at one file.

    Attributes:
        id: What it signs the file's row with.
        file_id: The file.
        stage: What it is doing: `extracting`, `embedding` or `storing`.
        chunks: Chunks stored so far.
        has_begun: Whether it has signed for its file.
        failure: The first error of ours on the way, before Open WebUI made a text of it.
    """

    def __init__(self, attempt_id: str, file_id: str, rows: OpenWebUIFileRows) -> None:
        """Begin an attempt."""
        self.id = attempt_id
        self.file_id = file_id
        self.rows = rows
        self.stage = "extracting"
        self.chunks = 0
        self.has_begun = False
        self.failure: EmberqError | None = None
        self._is_cancelled = False
        self._looked_at = 0.0
        self._lock = threading.Lock()

    def report(self, done: int, total: int, stage: str) -> None:
        """Tell of progress; may be called from any thread."""
        with self._lock:
            self.stage = stage
            progress(done, total, stage=stage)

    def cancel(self) -> None:
        """Have every step that is still to come raise."""
        self._is_cancelled = True

    def require(self, *, at_once: bool = False) -> None:
        """Go on only while the attempt has its file.

        Args:
            at_once: Look in the database even if that was done a moment ago.

        Raises:
            Cancelled: If it was cancelled, its file is gone, or another attempt has it.
        """
        if self._is_cancelled:
            raise Cancelled(file_id=self.file_id)
        if at_once or self.is_look_due:
            # Before the question: the others that come meanwhile need not ask as well.
            self._looked_at = time.monotonic()
            self.rows.require(self.file_id, self.id)

    @property
    def is_look_due(self) -> bool:
        """Whether `require` would ask the database, or raise."""
        return self._is_cancelled or time.monotonic() - self._looked_at > _LOOK_SECONDS

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep what the block raises: Open WebUI passes on only the text of it.

        What `cancel` made it raise says nothing of why that was called.
        """
        try:
            yield
        except EmberqError as exc:
            if not self._is_cancelled:
                self.failure = self.failure or exc
            raise


@contextlib.contextmanager
def running(attempt: FileAttempt) -> Iterator[None]:
    """Make an attempt the one that the seams serve."""
    global _attempt  # noqa: PLW0603 - one per process is the point
    _attempt = attempt
    try:
        yield
    finally:
        _attempt = None


def intercept(open_webui: InstalledOpenWebUI) -> None:
    """Put ours in front of Open WebUI's, once per process tree, before the fork."""
    module = open_webui.retrieval
    make_embedding_function, get_client = module.get_embedding_function, module.get_vector_db_client

    def covered_embedding_function(*args: Any, **kwargs: Any) -> Any:
        made = make_embedding_function(*args, **kwargs)
        return made if _attempt is None else _embedding_of(_attempt, made, args, kwargs)

    def covered_client() -> Any:
        client = get_client()
        return client if _attempt is None else _Vectors(client, _attempt)

    module.get_embedding_function = covered_embedding_function
    module.get_vector_db_client = covered_client
    module.Files = _Files(open_webui.Files)


class _Files:
    """Open WebUI's files, except that a job writes statuses itself and hears of lost writes."""

    def __init__(self, files: Any) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    async def update_file_data_by_id(self, id: str, data: dict[str, Any], db: Any = None) -> Any:  # noqa: A002 - its name
        """Write a file's data; a job's statuses are left to the job, which knows whether it goes on."""
        if _attempt is None:
            return await self._files.update_file_data_by_id(id, data, db=db)
        data = {key: value for key, value in data.items() if key not in ("status", "error")}
        if not data:
            return None
        return await self._written(
            _attempt, lambda session: self._files.update_file_data_by_id(id, data, db=session), db
        )

    async def update_file_metadata_by_id(self, id: str, meta: dict[str, Any], db: Any = None) -> Any:  # noqa: A002 - its name
        """Write a file's metadata."""
        if _attempt is None:
            return await self._files.update_file_metadata_by_id(id, meta, db=db)
        return await self._written(
            _attempt, lambda session: self._files.update_file_metadata_by_id(id, meta, db=session), db
        )

    async def _written(self, attempt: FileAttempt, write: Callable[[Any], Awaitable[Any]], db: Any) -> Any:
        """Write again, in a session of its own, what came to nothing; what is lost is not passed over."""
        written = await write(db)
        if written is not None:
            return written
        with attempt.remembering():
            # It says which of the two it was: the file is gone, or the database.
            await asyncio.to_thread(attempt.require, at_once=True)
            written = await write(None)
            if written is None:
                raise DatabaseUnavailable("Open WebUI's database did not take the file's text.")
        return written


def _embedding_of(attempt: FileAttempt, inner: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    engine, batch_size = str(args[0]), max(int(args[5]), 1)
    limit = int(kwargs.get("concurrent_requests") or 0) or _MAX_REQUESTS
    if not kwargs.get("enable_async", True):
        limit = 1

    async def embedding_function(query: Any, prefix: str | None = None, user: Any = None) -> Any:
        if not isinstance(query, list):
            return await inner(query, prefix=prefix, user=user)
        batches = [query[at : at + batch_size] for at in range(0, len(query), batch_size)]
        attempt.report(0, len(query), "embedding")
        permits, done = asyncio.Semaphore(limit), 0

        async def embed(batch: list[str]) -> Any:
            nonlocal done
            async with permits:
                if attempt.is_look_due:
                    await asyncio.to_thread(attempt.require)
                vectors = await embed_batch(lambda: inner(batch, prefix=prefix, user=user), engine=engine)
            done += len(batch)
            attempt.report(done, len(query), "embedding")
            return vectors

        with attempt.remembering():
            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(embed(batch)) for batch in batches]
            except ExceptionGroup as failed:
                raise _first(failed) from None
        return [vector for task in tasks for vector in task.result()]

    return embedding_function


def _first(failed: ExceptionGroup[Exception]) -> Exception:
    """Return the first of several errors that came together; the others mostly follow from it."""
    first = failed.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


class _Vectors:
    """A vector client that replaces a file's chunks in a collection instead of adding to them."""

    def __init__(self, client: Any, attempt: FileAttempt) -> None:
        self._client = client
        self._attempt = attempt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def has_collection(self, collection_name: str) -> bool:
        """Say no of the file's own collection: Open WebUI leaves a file alone that has chunks already."""
        if collection_name == f"file-{self._attempt.file_id}":
            return False
        return bool(self._client.has_collection(collection_name=collection_name))

    def insert(self, collection_name: str, items: list[dict[str, Any]]) -> None:
        """Put the new chunks in, then take the old ones out."""
        attempt = self._attempt
        ids = [item["id"] for item in items]
        with attempt.remembering():
            attempt.report(0, len(items), "storing")
            attempt.require(at_once=True)
            for tried in retry_open_webui("store_chunks"):
                with tried:
                    old = stored_ids(self._client, collection_name, attempt.file_id)
                    if tried.num > 1:
                        # It may have been done the last time, and only the answer was lost.
                        delete_ids(self._client, collection_name, sorted(old & set(ids)))
                    self._client.insert(collection_name=collection_name, items=items)
            for tried in retry_open_webui("replace_chunks"):
                with tried:
                    delete_ids(self._client, collection_name, sorted(old - set(ids)))
        attempt.chunks += len(items)
        attempt.report(len(items), len(items), "storing")


def stored_ids(client: Any, collection_name: str, file_id: str) -> set[str]:
    """Return the ids of a file's chunks in a collection.

    Raises:
        Exception: Whatever the driver raises, where the client lets it be heard.
    """
    table = getattr(client, "session", None) and _pgvector_table(client)
    if table is not None:
        from sqlalchemy import select

        try:
            rows = client.session.execute(
                select(table.id).where(
                    table.collection_name == collection_name, table.vmetadata["file_id"].astext == file_id
                )
            ).all()
            return {row.id for row in rows}
        finally:
            client.session.rollback()
    found = client.query(collection_name=collection_name, filter={"file_id": file_id})
    return set(found.ids[0]) if found and found.ids else set()


def delete_ids(client: Any, collection_name: str, ids: Sequence[str]) -> None:
    """Delete chunks by their ids."""
    for at in range(0, len(ids), _MAX_IDS):
        client.delete(collection_name=collection_name, ids=list(ids[at : at + _MAX_IDS]))


def _pgvector_table(client: Any) -> Any:
    """Return the client's table, where its ids can be read without the vectors and texts."""
    import sys

    module = sys.modules.get(type(client).__module__)
    table = getattr(module, "DocumentChunk", None)
    return None if table is None or getattr(module, "PGVECTOR_PGCRYPTO", False) else table
