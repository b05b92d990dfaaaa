"""Answer a search: embed the query, look it up, fuse the rankings."""

from __future__ import annotations

from typing import Any, Literal

from emberq.errors import InvalidRequest
from emberq.pipeline.resources import get_embedder, get_worker_embedding_functions
from emberq.store.collections import get_collection
from emberq.store.search import (
    Hit,
    keyword_search,
    reciprocal_rank_fusion,
    see_one_moment,
    vector_search,
)
from emberq.store.services import Services

__all__ = ["SearchMode", "search"]

SearchMode = Literal["vector", "keyword", "hybrid"]

#: Hits each ranking gives to the fusion for every result wanted; deeper ranks change the top little.
_FUSION_DEPTH = 4
#: Least hits each ranking gives to the fusion.
_MIN_FUSION_HITS = 50


def search(
    services: Services,
    *,
    tenant: str,
    collection: str,
    query: str,
    limit: int,
    mode: SearchMode,
    rerank: bool = False,
    filter_: dict[str, Any] | None = None,
) -> list[Hit]:
    """Return the best chunks of a collection for a query.

    Args:
        services: Where the chunks are.
        tenant: Whose collection.
        collection: Its name.
        query: A question or words.
        limit: Most hits to return.
        mode: By meaning, by words, or both fused by reciprocal rank.
        rerank: Let the reranking model order the hits.
        filter_: Only files whose metadata contains this.

    Raises:
        CollectionNotFound: If there is no such collection.
        EmbeddingUnavailable: If the collection's model cannot be loaded.
        InvalidRequest: If `rerank` is asked for and no reranking model is set.
    """
    if rerank and get_worker_embedding_functions().rerank is None:
        raise InvalidRequest(
            "There is no reranking model.", hint="Set rag_reranking_model, or search without rerank."
        )
    with services.database.transaction() as connection:
        found = get_collection(connection, tenant, collection)
    vector = get_embedder(found["embedding_model"]).embed([query])[0] if mode != "keyword" else None
    depth = max(limit * _FUSION_DEPTH, _MIN_FUSION_HITS) if mode == "hybrid" else limit
    rankings: list[list[Hit]] = []
    with services.database.transaction() as connection:
        see_one_moment(connection)
        if vector is not None:
            rankings.append(vector_search(connection, found["id"], vector, limit=depth, filter_=filter_))
        if mode != "vector":
            rankings.append(keyword_search(connection, found["id"], query, limit=depth, filter_=filter_))
    if mode != "hybrid":
        return rankings[0]
    return reciprocal_rank_fusion(rankings, limit=limit)
