"""Answers that were given before: the latest in memory, all of them in PostgreSQL for a while."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from emberq.config.current import get_config_cache
from emberq.errors import DatabaseUnavailable
from emberq.models.queues import QueueItem, Result
from emberq.store.files.embedding_cache import CachedVector, CacheKey, cached_vectors, remember_vectors
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

__all__ = ["RecentAnswers", "StoredVectors"]

log = get_logger(__name__)

#: Bytes kept in memory: 16,000 vectors of 384 dimensions.
_RECENT_BYTES = 32 << 20
#: Bytes an answer takes besides its row.
_ENTRY_BYTES = 500
#: Seconds the database is left alone after it did not answer: each try may take as long as a connection.
_REST_SECONDS = 30.0


class RecentAnswers:
    """The answers asked for last, up to a number of bytes; whoever calls holds a lock."""

    def __init__(self, most_bytes: int = _RECENT_BYTES) -> None:
        """Keep up to so many bytes."""
        self._most_bytes = most_bytes
        self._bytes = 0
        self._answers: OrderedDict[Hashable, Result] = OrderedDict()

    def get(self, key: Hashable) -> Result | None:
        """Return an answer and keep it longer."""
        answer = self._answers.get(key)
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def put(self, key: Hashable, answer: Result) -> None:
        """Keep an answer in place of those asked for the longest time ago."""
        replaced = self._answers.pop(key, None)
        self._bytes += _size(answer) - (_size(replaced) if replaced is not None else 0)
        self._answers[key] = answer
        while self._bytes > self._most_bytes:
            _, gone = self._answers.popitem(last=False)
            self._bytes -= _size(gone)


def _size(answer: Result) -> int:
    return answer.row.nbytes + _ENTRY_BYTES


class StoredVectors:
    """The answers in PostgreSQL, read and written a batch at a time.

    Invariant: nothing here raises for a database that is away; it is as if nothing were stored.
    """

    def __init__(self, services: Callable[[], Services]) -> None:
        """Use the database of these services."""
        self._services = services
        self._rest_until = 0.0

    def find(self, fingerprint: str, entries: Sequence[QueueItem]) -> dict[QueueItem, Result]:
        """Return the answers that are known, for the model with this fingerprint."""
        if not self._is_used():
            return {}
        keys = {entry: _key(fingerprint, entry) for entry in entries}
        try:
            with self._services().database.transaction() as connection:
                found = cached_vectors(connection, keys.values())
        except DatabaseUnavailable as exc:
            self._rest(exc)
            return {}
        return {entry: Result(*found[key]) for entry, key in keys.items() if key in found}

    def keep(self, fingerprint: str, entries: Sequence[QueueItem], answers: Sequence[Result]) -> None:
        """Keep what was computed."""
        if not self._is_used():
            return
        vectors = {
            _key(fingerprint, entry): CachedVector(*answer)
            for entry, answer in zip(entries, answers, strict=True)
        }
        try:
            with self._services().database.transaction() as connection:
                remember_vectors(connection, vectors)
        except DatabaseUnavailable as exc:
            self._rest(exc)

    def _is_used(self) -> bool:
        known = get_config_cache().known
        return time.monotonic() >= self._rest_until and bool(known and known.settings.embedding_cache_rows)

    def _rest(self, error: DatabaseUnavailable) -> None:
        self._rest_until = time.monotonic() + _REST_SECONDS
        log.warning("embedding_cache_skipped", error_code=error.code, error=error.message)


def _key(fingerprint: str, entry: QueueItem) -> CacheKey:
    """Name the text and the model as the chunks of documents do."""
    return entry.tenant, hashlib.sha256(f"{fingerprint}\0{entry.input}".encode()).digest()
