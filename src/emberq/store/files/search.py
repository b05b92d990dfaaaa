"""Search in a collection by vector and by keyword, and the fusion of rankings."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector.sqlalchemy import HALFVEC
from sqlalchemy import Connection, Float, Integer, Text, cast, func, literal, select, text
from sqlalchemy.dialects.postgresql import JSONB, TSQUERY
from sqlalchemy.sql.functions import Function

from emberq.store.schema.tables import ChunkRow, FileRow

#: Damping of reciprocal rank fusion; Cormack, Clarke and Büttcher (SIGIR 2009) found 60 to be robust.
RRF_K = 60


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk found by a search.

    Attributes:
        chunk_id: The chunk.
        score: Higher is better: cosine similarity, word rank, fused rank or the reranking model's score.
        text: The chunk's text.
        file_id: The chunk's file.
        file_name: The file's name.
        external_id: Its uploader's own id of it.
        page: The page, slide, sheet or part where the chunk starts.
        start: Index of its first character in the file's text.
        end: Index after its last character.
        heading: The headings above it.
        metadata: The file's metadata.
        header: The names of the columns, if it begins with a later row of a table.
    """

    chunk_id: int
    score: float
    text: str
    file_id: uuid.UUID
    file_name: str
    external_id: str
    page: int | None
    start: int
    end: int
    heading: str | None
    metadata: dict[str, Any]
    header: str | None = None

    @property
    def shown_text(self) -> str:
        """Its text under the names of the columns, as people and models read it."""
        return f"{self.header}\n{self.text}" if self.header else self.text


def use_snapshot(connection: Connection) -> None:
    """Let all searches of a transaction read the same snapshot; call it first.

    By default each statement reads its own, and a file that is replaced between two searches would be
    found in two versions.
    """
    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


def vector_search(
    connection: Connection,
    collection_id: uuid.UUID,
    query: NDArray[np.float32],
    *,
    limit: int,
    filter_: dict[str, Any] | None = None,
) -> list[Hit]:
    """Return the chunks nearest to a query vector; the score is the cosine similarity.

    Args:
        connection: The transaction.
        collection_id: The collection.
        query: The query's vector, float32 `[dimensions]`.
        limit: Most hits to return.
        filter_: Only files whose metadata contains this.
    """
    dimensions = int(query.shape[0])
    # The expression and the condition of the index for this number of dimensions, so that it is used.
    stored = cast(ChunkRow.embedding, HALFVEC(dimensions))
    distance = stored.op("<=>", return_type=Float)(literal(query, HALFVEC(dimensions)))
    return _hits(
        connection,
        collection_id,
        score=1 - distance,
        condition=func.vector_dims(ChunkRow.embedding) == dimensions,
        order=(distance,),
        limit=limit,
        filter_=filter_,
    )


def keyword_search(
    connection: Connection,
    collection_id: uuid.UUID,
    query: str,
    *,
    limit: int,
    filter_: dict[str, Any] | None = None,
) -> list[Hit]:
    """Return the chunks that share words with the query (PostgreSQL full text, English stems).

    The arguments are those of `vector_search`, with words or a question as the query.
    """
    words = cast(_any_word(query), TSQUERY)
    # 1 | 32: divide by 1 + the logarithm of the chunk's length, and scale to 0..1.
    rank = func.ts_rank_cd(ChunkRow.words, words, cast(33, Integer))
    return _hits(
        connection,
        collection_id,
        score=rank,
        condition=ChunkRow.words.op("@@")(words),
        order=(rank.desc(), ChunkRow.id),
        limit=limit,
        filter_=filter_,
    )


def _any_word(query: str) -> Function[Any]:
    """Turn a question into a tsquery that matches any of its words; the rank orders the matches."""
    all_words = func.plainto_tsquery("english", query)
    return func.replace(cast(all_words, Text), "&", "|")


def _hits(
    connection: Connection,
    collection_id: uuid.UUID,
    *,
    score: Any,
    condition: Any,
    order: Sequence[Any],
    limit: int,
    filter_: dict[str, Any] | None,
) -> list[Hit]:
    """Return the chunks that meet a condition, in order, with their score."""
    statement = (
        select(
            ChunkRow.id.label("chunk_id"),
            score.label("score"),
            ChunkRow.text,
            ChunkRow.file_id,
            FileRow.name.label("file_name"),
            FileRow.external_id,
            ChunkRow.page,
            ChunkRow.start,
            ChunkRow.end,
            ChunkRow.heading,
            FileRow.meta.label("metadata"),
            ChunkRow.header,
        )
        .join(FileRow, FileRow.id == ChunkRow.file_id)
        .where(ChunkRow.collection_id == collection_id, condition)
        .order_by(*order)
        .limit(limit)
    )
    if filter_:
        statement = statement.where(FileRow.meta.op("@>")(cast(literal(filter_, JSONB), JSONB)))
    return [Hit(**row) for row in connection.execute(statement).mappings()]


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Hit]], *, limit: int) -> list[Hit]:
    """Fuse rankings: the score of a hit is the sum of 1 / (60 + rank) over the rankings that contain it.

    Source: Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet and individual
    Rank Learning Methods, SIGIR 2009.
    """
    scores: dict[int, float] = {}
    hits: dict[int, Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            scores[hit.chunk_id] = scores.get(hit.chunk_id, 0.0) + 1.0 / (RRF_K + rank)
            hits.setdefault(hit.chunk_id, hit)
    best = sorted(scores, key=lambda chunk_id: (-scores[chunk_id], chunk_id))[:limit]
    return [replace(hits[chunk_id], score=scores[chunk_id]) for chunk_id in best]
