"""The embedding cache: vectors for the embeddings API, so that no text of a tenant is embedded twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from emberq.store.schema.tables import EmbeddingCacheRow

#: A tenant and a fingerprint.
CacheKey: TypeAlias = tuple[str, bytes]

#: The age of `used_at` from which a use is written: most uses cost no write.
_USE_RESOLUTION = timedelta(hours=1)
#: Rows deleted by one statement.
_BATCH = 1000
#: A vector that is lost in a crash is embedded again, so there is no need to wait for the disk.
_NOT_DURABLE = text("SET LOCAL synchronous_commit = off")

_key = tuple_(EmbeddingCacheRow.tenant, EmbeddingCacheRow.fingerprint)


class CachedVector(NamedTuple):
    """The cached vector of a text.

    Attributes:
        vector: Its values, `[dimensions]`.
        tokens: Number of tokens of the text.
    """

    vector: NDArray[np.float32]
    tokens: int


def cached_vectors(connection: Connection, keys: Iterable[CacheKey]) -> dict[CacheKey, CachedVector]:
    """Return the cached vectors of these keys, and record that they were used."""
    rows = connection.execute(
        select(
            EmbeddingCacheRow.tenant,
            EmbeddingCacheRow.fingerprint,
            EmbeddingCacheRow.vector,
            EmbeddingCacheRow.tokens,
            (EmbeddingCacheRow.used_at < func.now() - _USE_RESOLUTION).label("is_stale"),
        ).where(_key.in_(list(keys)))
    ).all()
    _record_use(connection, [(row.tenant, row.fingerprint) for row in rows if row.is_stale])
    return {
        (row.tenant, bytes(row.fingerprint)): CachedVector(np.frombuffer(row.vector, "<f4"), row.tokens)
        for row in rows
    }


def _record_use(connection: Connection, keys: list[CacheKey]) -> None:
    if not keys:
        return
    # A transaction that has locked one of the rows records the same use.
    free = (
        select(EmbeddingCacheRow.tenant, EmbeddingCacheRow.fingerprint)
        .where(_key.in_(keys))
        .with_for_update(skip_locked=True)
        .cte()
    )
    connection.execute(_NOT_DURABLE)
    connection.execute(
        update(EmbeddingCacheRow)
        .where(EmbeddingCacheRow.tenant == free.c.tenant, EmbeddingCacheRow.fingerprint == free.c.fingerprint)
        .values(used_at=func.now())
    )


def cache_vectors(connection: Connection, vectors: Mapping[CacheKey, CachedVector]) -> None:
    """Store vectors; a key that is already cached keeps its vector."""
    # Sorted, so that two processes that store the same texts do not deadlock.
    values = [
        {
            "tenant": tenant,
            "fingerprint": fingerprint,
            "vector": one.vector.astype("<f4").tobytes(),
            "tokens": one.tokens,
        }
        for (tenant, fingerprint), one in sorted(vectors.items(), key=lambda item: item[0])
    ]
    if not values:
        return
    connection.execute(_NOT_DURABLE)
    connection.execute(insert(EmbeddingCacheRow).values(values).on_conflict_do_nothing())


def purge_vector_batch(connection: Connection, *, older_than_seconds: float, max_rows: int) -> int:
    """Delete a batch of vectors that are unused for this long, or the least recently used beyond `max_rows`.

    Returns:
        How many were deleted; call again until it is 0.
    """
    # The `used_at` of the first row beyond `max_rows`; NULL if there are fewer.
    surplus = (
        select(EmbeddingCacheRow.used_at)
        .order_by(EmbeddingCacheRow.used_at.desc())
        .offset(max_rows)
        .limit(1)
        .scalar_subquery()
    )
    too_old = func.now() - timedelta(seconds=older_than_seconds)
    old = (
        select(EmbeddingCacheRow.tenant, EmbeddingCacheRow.fingerprint)
        .where(EmbeddingCacheRow.used_at <= func.greatest(too_old, surplus))
        .order_by(EmbeddingCacheRow.used_at)
        .limit(_BATCH)
        .with_for_update(skip_locked=True)
        .cte()
    )
    return connection.execute(
        delete(EmbeddingCacheRow).where(
            EmbeddingCacheRow.tenant == old.c.tenant, EmbeddingCacheRow.fingerprint == old.c.fingerprint
        )
    ).rowcount
