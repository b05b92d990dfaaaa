"""Vectors that other programs asked for, kept so that no text of a tenant is embedded twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from emberq.store.schema.tables import EmbeddingCacheRow

__all__ = ["CacheKey", "CachedVector", "cached_vectors", "purge_vector_batch", "remember_vectors"]

#: A tenant and a fingerprint.
CacheKey: TypeAlias = tuple[str, bytes]

#: How old `used_at` gets before a use is written down: most uses cost no write.
_USE_RESOLUTION = timedelta(hours=1)
#: Rows deleted by one statement.
_BATCH = 1000
#: A vector that a crash takes back is embedded again; nobody waits for the disk for it.
_NOT_DURABLE = text("SET LOCAL synchronous_commit = off")

_key = tuple_(EmbeddingCacheRow.tenant, EmbeddingCacheRow.fingerprint)


class CachedVector(NamedTuple):
    """What was computed for a text.

    Attributes:
        vector: Its values, `[dimensions]`.
        tokens: Tokens of the text.
    """

    vector: NDArray[np.float32]
    tokens: int


def cached_vectors(connection: Connection, keys: Iterable[CacheKey]) -> dict[CacheKey, CachedVector]:
    """Return what is known for these keys, and note that it was asked for."""
    rows = connection.execute(
        select(
            EmbeddingCacheRow.tenant,
            EmbeddingCacheRow.fingerprint,
            EmbeddingCacheRow.vector,
            EmbeddingCacheRow.tokens,
            (EmbeddingCacheRow.used_at < func.now() - _USE_RESOLUTION).label("is_stale"),
        ).where(_key.in_(list(keys)))
    ).all()
    _note_use(connection, [(row.tenant, row.fingerprint) for row in rows if row.is_stale])
    return {
        (row.tenant, bytes(row.fingerprint)): CachedVector(np.frombuffer(row.vector, "<f4"), row.tokens)
        for row in rows
    }


def _note_use(connection: Connection, keys: list[CacheKey]) -> None:
    if not keys:
        return
    # Whoever else holds one of them notes the same thing.
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


def remember_vectors(connection: Connection, vectors: Mapping[CacheKey, CachedVector]) -> None:
    """Keep vectors; what is known already stays as it is."""
    # In one order everywhere, so that two processes that keep the same texts do not wait in a circle.
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
    """Delete a batch of what nobody asked for in this time, or of the longest unused beyond `max_rows`.

    Returns:
        How many were deleted; call again until it is 0.
    """
    # The use of the first row that is too many; nothing while there are few.
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
