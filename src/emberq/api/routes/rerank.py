"""`/v1/rerank`, as in Cohere's and Jina's APIs: the relevance of texts to a query."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from emberq.api.auth import Reader
from emberq.api.openai import (
    MOST_INPUTS,
    ModelText,
    infer,
    json_body,
    known_model,
    read_json,
    tenant_settings,
)
from emberq.api.types import Text
from emberq.models.batcher import RERANK
from emberq.models.files import shown_name
from emberq.models.queues import Input, ModelKey, Result
from emberq.models.reranker import cosine_relevances

router = APIRouter(prefix="/v1", tags=["OpenAI"])

#: The model name that stands for the model of the settings; some clients must send a name.
_ANY = "emberq"


class _Document(BaseModel):
    text: ModelText


class RerankIn(BaseModel):
    """A query and the texts to score; other fields are ignored."""

    model_config = ConfigDict(extra="ignore")

    query: ModelText
    documents: list[ModelText | _Document] = Field(min_length=1, max_length=MOST_INPUTS)
    model: Text = Field("", description="The setting rag_reranking_model if left out, or `emberq`.")
    top_n: int | None = Field(None, ge=1, description="Most results in the response; all texts are scored.")
    return_documents: bool = False


@router.post("/rerank", openapi_extra=json_body(RerankIn))
async def rerank(request: Request, caller: Reader) -> JSONResponse:
    """Score each text for a query, from 0 to 1, and list the best first.

    The scores come from the cross-encoder of the setting `rag_reranking_model`. If none is set, they are
    the cosine similarities of the embedding model's vectors, which are less accurate.
    """
    body = await read_json(request, RerankIn)
    settings = await tenant_settings(caller.tenant)
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    own, asked = settings.rag_reranking_model, "" if body.model == _ANY else body.model
    inputs: list[Input]
    if own and asked in ("", own):
        model, inputs = ModelKey("reranking", own), [(body.query, text) for text in texts]
    else:
        name = await known_model(asked, settings.rag_embedding_model)
        model, inputs = ModelKey("embedding", name), [body.query, *texts]
    found = await infer(request, RERANK, inputs, tenant=caller.tenant, model=model)
    scores = _scores(model, found)
    best = sorted(range(len(texts)), key=lambda index: -scores[index])[: body.top_n]
    results = [
        {"index": index, "relevance_score": scores[index]}
        | ({"document": {"text": texts[index]}} if body.return_documents else {})
        for index in best
    ]
    tokens = sum(result.tokens for result in found)
    return JSONResponse(
        {
            "model": Path(model.name).name if model.kind == "reranking" else shown_name(model.name),
            "results": results,
            "usage": {"total_tokens": tokens},
        }
    )


def _scores(model: ModelKey, results: list[Result]) -> list[float]:
    rows = np.stack([result.row for result in results])
    relevances = rows[:, 0] if model.kind == "reranking" else cosine_relevances(rows)
    return [float(one) for one in relevances]
