"""`/collections`: create, list, show, change, delete and search."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Query, Response

from emberq.api.auth import Reader, ServicesDep, Writer
from emberq.api.schemas import (
    CollectionIn,
    CollectionOut,
    CollectionPatch,
    Cursor,
    FileRef,
    Page,
    ResultOut,
    SearchIn,
    SearchOut,
    collection_out,
    write_json,
)
from emberq.api.types import Text
from emberq.config.current import get_worker_config
from emberq.models.allowed import choose_model
from emberq.search import search
from emberq.store.files.collections import (
    create_collection,
    delete_collection,
    get_collection_with_files,
    list_collections,
    update_collection,
)

router = APIRouter(prefix="/collections", tags=["collections"])


@router.post("", status_code=201)
def create(body: CollectionIn, caller: Writer, services: ServicesDep) -> CollectionOut:
    """Create a collection."""
    settings = get_worker_config().for_tenant(caller.tenant)
    model = choose_model(body.embedding_model or "", settings.rag_embedding_model)
    with services.database.tenant_transaction(caller.tenant) as connection:
        row = create_collection(
            connection,
            caller.tenant,
            body.name,
            embedding_model=model,
            metadata=body.metadata,
        )
    return collection_out(row)


@router.get("", response_model=Page[CollectionOut])
def list_all(
    caller: Reader,
    services: ServicesDep,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 500,
) -> Response:
    """List the collections, ordered by name."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        rows = list_collections(connection, caller.tenant, after=cursor or "", limit=limit)
    return write_json(
        Page[CollectionOut](
            items=[collection_out(row) for row in rows],
            next_cursor=rows[-1]["name"] if len(rows) == limit else None,
        )
    )


@router.get("/{name}")
def show(name: Text, caller: Reader, services: ServicesDep) -> CollectionOut:
    """Show one collection."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        return collection_out(get_collection_with_files(connection, caller.tenant, name))


@router.patch("/{name}")
def change(name: Text, body: CollectionPatch, caller: Writer, services: ServicesDep) -> CollectionOut:
    """Change a collection's name or metadata; its files, its model and its pause stay."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        update_collection(connection, caller.tenant, name, new_name=body.name, metadata=body.metadata)
        return collection_out(get_collection_with_files(connection, caller.tenant, body.name or name))


@router.delete("/{name}", status_code=204)
def delete(name: Text, caller: Writer, services: ServicesDep) -> None:
    """Delete a collection and all its files."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        delete_collection(connection, caller.tenant, name)


@router.post("/{name}/search", response_model=SearchOut)
def search_in(name: Text, body: SearchIn, caller: Reader, services: ServicesDep) -> Response:
    """Search the collection by meaning, by keywords, or by both."""
    started = time.perf_counter()
    settings = get_worker_config().for_tenant(caller.tenant)
    hits = search(
        services,
        tenant=caller.tenant,
        collection=name,
        query=body.query,
        limit=body.k or settings.rag_top_k,
        mode=body.mode or ("hybrid" if settings.rag_hybrid else "vector"),
        rerank=body.rerank,
        filter_=body.filter,
    )
    results = [
        ResultOut(
            text=hit.text,
            score=hit.score,
            file=FileRef(id=hit.file_id, name=hit.file_name, external_id=hit.external_id),
            page=hit.page,
            start=hit.start,
            end=hit.end,
            heading=hit.heading,
            header=hit.header,
            metadata=hit.metadata,
        )
        for hit in hits
    ]
    took_ms = round((time.perf_counter() - started) * 1000, 2)
    return write_json(SearchOut(results=results, took_ms=took_ms))
