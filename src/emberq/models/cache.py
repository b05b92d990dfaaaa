"""Results of earlier requests: the most recent in memory, vectors also in PostgreSQL."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from emberq.config.current import get_config_cache
from emberq.errors import DatabaseUnavailable
from emberq.models.queues import QueueItem, Result
from emberq.store.files.embedding_cache import CachedVector, CacheKey, cache_vectors, cached_vectors
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Most bytes in memory: 16,000 vectors of 384 dimensions.
_RECENT_BYTES = 32 << 20
#: Bytes of a result besides its row.
_RESULT_BYTES = 500
#: Seconds for which the database is not asked after it did not answer: each try may last as long as a
#: connection attempt.
_BACKOFF_SECONDS = 30.0


class RecentResults:
    """The most recently used results, up to a number of bytes; callers need a lock."""

    def __init__(self, most_bytes: int = _RECENT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._results: OrderedDict[Hashable, Result] = OrderedDict()

    def get(self, key: Hashable) -> Result | None:
        """Return a result, which counts as a use, or None."""
        result = self._results.get(key)
        if result is not None:
            self._results.move_to_end(key)
        return result

    def put(self, key: Hashable, result: Result) -> None:
        """Add a result, and drop the least recently used results until all fit."""
        replaced = self._results.pop(key, None)
        self._bytes += _size(result) - (_size(replaced) if replaced is not None else 0)
        self._results[key] = result
        while self._bytes > self._most_bytes:
            _, dropped = self._results.popitem(last=False)
            self._bytes -= _size(dropped)


def _size(result: Result) -> int:
    return result.row.nbytes + _RESULT_BYTES


class StoredVectors:
    """The vectors in PostgreSQL, read and written a batch at a time.

    Invariant: a database that is away raises nothing here; it counts as an empty cache.
    """

    def __init__(self, services: Callable[[], Services]) -> None:
        self._services = services
        self._skipped_until = 0.0

    def find(self, fingerprint: str, items: Sequence[QueueItem]) -> dict[QueueItem, Result]:
        """Return the stored results of these items, for the model with this fingerprint."""
        if not self._is_used():
            return {}
        keys = {item: _key(fingerprint, item) for item in items}
        found: dict[CacheKey, CachedVector] = {}
        try:
            for tenant, of_tenant in _by_tenant(keys.values()):
                with self._services().database.tenant_transaction(tenant) as connection:
                    found |= cached_vectors(connection, of_tenant)
        except DatabaseUnavailable as exc:
            self._back_off(exc)
            return {}
        return {item: Result(*found[key]) for item, key in keys.items() if key in found}

    def store(self, fingerprint: str, items: Sequence[QueueItem], results: Sequence[Result]) -> None:
        """Store the results of these items."""
        if not self._is_used():
            return
        vectors = {
            _key(fingerprint, item): CachedVector(*result)
            for item, result in zip(items, results, strict=True)
        }
        try:
            for tenant, keys in _by_tenant(vectors):
                with self._services().database.tenant_transaction(tenant) as connection:
                    cache_vectors(connection, {key: vectors[key] for key in keys})
        except DatabaseUnavailable as exc:
            self._back_off(exc)

    def _is_used(self) -> bool:
        known = get_config_cache().stored
        return time.monotonic() >= self._skipped_until and bool(known and known.settings.embedding_cache_rows)

    def _back_off(self, error: DatabaseUnavailable) -> None:
        self._skipped_until = time.monotonic() + _BACKOFF_SECONDS
        log.warning("embedding_cache_skipped", error_code=error.code, error=error.message)


def _by_tenant(keys: Iterable[CacheKey]) -> Iterator[tuple[str, list[CacheKey]]]:
    """Yield each tenant with its keys: a batch has the texts of several tenants, a transaction of one."""
    for tenant, of_tenant in groupby(sorted(set(keys)), key=itemgetter(0)):
        yield tenant, list(of_tenant)


def _key(fingerprint: str, item: QueueItem) -> CacheKey:
    """Return the cache key of a text and a model, the same as for chunks of documents."""
    return item.tenant, hashlib.sha256(f"{fingerprint}\0{item.input}".encode()).digest()
