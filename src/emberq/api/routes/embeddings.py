"""`/v1/embeddings` and `/v1/models`, as OpenAI has them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from emberq.api.auth import Caller, Reader, reader
from emberq.api.openai import (
    OPENAI_RESPONSES,
    ClientGone,
    EmbeddingsIn,
    body_of,
    known_model,
    tenant_settings,
    wait_for,
    write_embeddings,
)
from emberq.config.current import get_worker_config
from emberq.errors import InvalidRequest
from emberq.models.batcher import BULK, QUERY, Batcher
from emberq.models.files import list_models
from emberq.models.pins import ALIASES
from emberq.models.queues import ModelKey

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["OpenAI"], responses=OPENAI_RESPONSES)

#: Texts that are taken and written out at once, without a thread.
_FEW = 64
#: What web servers call a client that did not wait; nobody reads it but the metrics.
_CLIENT_GONE = 499

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": EmbeddingsIn.model_json_schema()}},
    }
}


@router.post("/embeddings", openapi_extra=_BODY)
async def embeddings(request: Request, caller: Annotated[Caller, Depends(reader)]) -> Response:
    """Embed texts; those of many requests share the model's batches, and known texts cost nothing."""
    body = await body_of(request, EmbeddingsIn)
    settings = await tenant_settings(caller.tenant)
    name = await known_model(body.model, settings.rag_embedding_model)
    batcher: Batcher = request.app.state.batcher
    lane, model = QUERY if body.is_query else BULK, ModelKey("embedding", name)
    if len(body.input) <= _FEW:
        future = batcher.submit(lane, body.input, tenant=caller.tenant, model=model)
    else:
        future = await asyncio.to_thread(batcher.submit, lane, body.input, tenant=caller.tenant, model=model)
    try:
        answers = await wait_for(request, future)
    except ClientGone:
        return Response(status_code=_CLIENT_GONE)
    dimensions = len(answers[0].row)
    if body.dimensions not in (None, dimensions):
        raise InvalidRequest(
            f"The model {name} has {dimensions} dimensions, not {body.dimensions}.",
            hint="Leave the field dimensions out.",
            param="dimensions",
        )
    arguments: dict[str, Any] = {"model": body.model or name, "encoding_format": body.encoding_format}
    if len(answers) <= _FEW:
        text = write_embeddings(answers, **arguments)
    else:
        text = await asyncio.to_thread(write_embeddings, answers, **arguments)
    return Response(text, media_type="application/json")


@router.get("/models")
def models(caller: Reader) -> dict[str, Any]:
    """List the embedding models that `/v1/embeddings` takes, the tenant's own first."""
    own = get_worker_config().for_tenant(caller.tenant).rag_embedding_model
    names = dict.fromkeys([ALIASES.get(own, own), *(files.name for files in list_models())])
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "emberq"} for name in names],
    }
