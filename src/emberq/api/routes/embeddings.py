"""`/v1/embeddings` and `/v1/models`, as in OpenAI's API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from emberq.api.auth import Reader
from emberq.api.openai import (
    EmbeddingsIn,
    infer,
    json_body,
    known_model,
    read_json,
    tenant_settings,
    write_embeddings,
)
from emberq.config.current import get_worker_config
from emberq.errors import InvalidRequest
from emberq.models.allowed import allowed_models
from emberq.models.batcher import BULK, QUERY
from emberq.models.files import shown_name
from emberq.models.pins import ALIASES
from emberq.models.queues import ModelKey

router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.post("/embeddings", openapi_extra=json_body(EmbeddingsIn))
async def embeddings(request: Request, caller: Reader) -> Response:
    """Embed texts; requests share the model's batches, and texts embedded before are not computed again."""
    body = await read_json(request, EmbeddingsIn)
    settings = await tenant_settings(caller.tenant)
    name = await known_model(body.model, settings.rag_embedding_model)
    queue = QUERY if body.is_query else BULK
    model = ModelKey("embedding", name)
    results = await infer(request, queue, body.input, tenant=caller.tenant, model=model)
    dimensions = len(results[0].row)
    if body.dimensions not in (None, dimensions):
        raise InvalidRequest(
            f"The model {shown_name(name)} has {dimensions} dimensions, not {body.dimensions}.",
            hint="Leave the field dimensions out.",
            param="dimensions",
        )
    text = await write_embeddings(
        results, model=body.model or shown_name(name), encoding_format=body.encoding_format
    )
    return Response(text, media_type="application/json")


@router.get("/models")
def models(caller: Reader) -> dict[str, Any]:
    """List the embedding models that `/v1/embeddings` accepts, the tenant's own first."""
    own = get_worker_config().for_tenant(caller.tenant).rag_embedding_model
    names = dict.fromkeys(shown_name(name) for name in (ALIASES.get(own, own), *allowed_models()))
    return {
        "object": "list",
        "data": [{"id": name, "object": "model", "created": 0, "owned_by": "emberq"} for name in names],
    }
