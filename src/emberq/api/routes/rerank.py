"""`/v1/rerank`, as Cohere and Jina have it: how much each text says about a query."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from emberq.api.auth import Caller, reader
from emberq.api.openai import (
    MOST_INPUTS,
    OPENAI_RESPONSES,
    ClientGone,
    body_of,
    known_model,
    tenant_settings,
    wait_for,
)
from emberq.models.batcher import RERANK, Batcher
from emberq.models.queues import Input, ModelKey, Result
from emberq.models.reranker import cosine_relevances

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=OPENAI_RESPONSES)

#: What a client that must name a model may call whichever is set.
_ANY = "emberq"
#: What web servers call a client that did not wait; nobody reads it but the metrics.
_CLIENT_GONE = 499


class _Document(BaseModel):
    text: str


class RerankIn(BaseModel):
    """A query and the texts to score; fields that are not named here are ignored."""

    model_config = ConfigDict(extra="ignore")

    query: str
    documents: list[str | _Document] = Field(min_length=1, max_length=MOST_INPUTS)
    model: str = Field("", description="The setting rag_reranking_model if left out, or `emberq`.")
    top_n: int | None = Field(None, ge=1, description="Most results in the answer; all are scored anyway.")
    return_documents: bool = False


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": RerankIn.model_json_schema()}},
    }
}


@router.post("/rerank", openapi_extra=_BODY)
async def rerank(request: Request, caller: Annotated[Caller, Depends(reader)]) -> Response:
    """Score every text for a query from 0 to 1, best first.

    By the cross-encoder of the setting `rag_reranking_model`; where none is set, by the angle between
    the vectors of the embedding model, which knows less of what a query means.
    """
    body = await body_of(request, RerankIn)
    settings = await tenant_settings(caller.tenant)
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    own, asked = settings.rag_reranking_model, "" if body.model == _ANY else body.model
    inputs: list[Input]
    if own and asked in ("", own):
        model, inputs = ModelKey("reranking", own), [(body.query, text) for text in texts]
    else:
        name = await known_model(asked, settings.rag_embedding_model)
        model, inputs = ModelKey("embedding", name), [body.query, *texts]
    batcher: Batcher = request.app.state.batcher
    future = await asyncio.to_thread(batcher.submit, RERANK, inputs, tenant=caller.tenant, model=model)
    try:
        answers = await wait_for(request, future)
    except ClientGone:
        return Response(status_code=_CLIENT_GONE)
    scores = _scores(model, answers)
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    results = [
        {"index": index, "relevance_score": scores[index]}
        | ({"document": {"text": texts[index]}} if body.return_documents else {})
        for index in best
    ]
    tokens = sum(answer.tokens for answer in answers)
    # A folder's path is nobody's business.
    return JSONResponse(
        {
            "model": Path(model.name).name if model.kind == "reranking" else model.name,
            "results": results,
            "usage": {"total_tokens": tokens},
        }
    )


def _scores(model: ModelKey, answers: list[Result]) -> list[float]:
    rows = np.stack([answer.row for answer in answers])
    relevances = rows[:, 0] if model.kind == "reranking" else cosine_relevances(rows)
    return [float(one) for one in relevances]
