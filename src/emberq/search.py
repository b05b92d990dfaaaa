"""Search: embeds the query, finds chunks by vector and by keyword, fuses the rankings and reranks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from emberq.config.current import get_worker_config
from emberq.errors import InvalidRequest
from emberq.pipeline.resources import get_embedder, get_reranker
from emberq.store.files.collections import get_collection
from emberq.store.files.search import (
    Hit,
    keyword_search,
    reciprocal_rank_fusion,
    use_snapshot,
    vector_search,
)
from emberq.store.services import Services

SearchMode = Literal["vector", "keyword", "hybrid"]

#: Hits of each ranking that are fused, for each wanted result; deeper ranks change little at the top.
_FUSION_DEPTH = 4
#: Fewest hits of each ranking that are fused.
_MIN_FUSION_HITS = 50
#: Hits that the reranking model reads, for each wanted result, and most of them in all.
_RERANK_DEPTH, _MOST_RERANKED = 4, 50


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
        services: The database with the chunks.
        tenant: The collection's tenant.
        collection: The collection's name.
        query: A question or words.
        limit: Most hits to return.
        mode: By vector, by keyword, or hybrid: both fused by reciprocal rank.
        rerank: Whether the reranking model orders the hits.
        filter_: Only files whose metadata contains this.

    Raises:
        CollectionNotFound: If there is no such collection.
        EmbeddingUnavailable: If the collection's model, or the reranking model, cannot be loaded.
        InvalidRequest: If `rerank` is wanted and no reranking model is set.
    """
    reranker = None
    if rerank:
        name = get_worker_config().for_tenant(tenant).rag_reranking_model
        if not name:
            raise InvalidRequest(
                "There is no reranking model.", hint="Set rag_reranking_model, or search without rerank."
            )
        reranker = get_reranker(name)
    wanted = max(limit, min(limit * _RERANK_DEPTH, _MOST_RERANKED)) if reranker is not None else limit
    hits = _find(
        services, tenant=tenant, collection=collection, query=query, limit=wanted, mode=mode, filter_=filter_
    )
    if reranker is None or not hits:
        return hits
    scores = reranker.rerank(query, [hit.shown_text for hit in hits])
    scored = [replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)]
    return sorted(scored, key=lambda hit: -hit.score)[:limit]


def _find(
    services: Services,
    *,
    tenant: str,
    collection: str,
    query: str,
    limit: int,
    mode: SearchMode,
    filter_: dict[str, Any] | None,
) -> list[Hit]:
    with services.database.tenant_transaction(tenant) as connection:
        found = get_collection(connection, tenant, collection)
    vector = get_embedder(found["embedding_model"]).embed([query])[0] if mode != "keyword" else None
    depth = max(limit * _FUSION_DEPTH, _MIN_FUSION_HITS) if mode == "hybrid" else limit
    rankings: list[list[Hit]] = []
    with services.database.tenant_transaction(tenant) as connection:
        use_snapshot(connection)
        if vector is not None:
            rankings.append(vector_search(connection, found["id"], vector, limit=depth, filter_=filter_))
        if mode != "vector":
            rankings.append(keyword_search(connection, found["id"], query, limit=depth, filter_=filter_))
    if mode != "hybrid":
        return rankings[0]
    return reciprocal_rank_fusion(rankings, limit=limit)
