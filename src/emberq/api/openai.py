"""The shapes of OpenAI's API, as far as its clients need them: bodies, answers and errors."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, Literal, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from emberq.config.current import get_config_cache, get_worker_config
from emberq.config.runtime import RuntimeSettings
from emberq.errors import EmberqError, InvalidRequest, ModelNotFound, RequestTooLarge, Unauthorized
from emberq.models.files import list_models
from emberq.models.pins import ALIASES
from emberq.models.queues import Result

__all__ = [
    "MOST_INPUTS",
    "OPENAI_PATHS",
    "OPENAI_RESPONSES",
    "ClientGone",
    "EmbeddingsIn",
    "body_of",
    "known_model",
    "openai_error",
    "tenant_settings",
    "wait_for",
    "write_embeddings",
]

#: Paths whose errors have OpenAI's shape.
OPENAI_PATHS = ("/v1/embeddings", "/v1/models", "/v1/rerank")
#: Most texts of one request; OpenAI's own limit.
MOST_INPUTS = 2048
#: Most bytes of a request's body.
_MOST_BODY_BYTES = 32 << 20
#: Names in the field `input_type` for a text that somebody waits for.
_QUERY_TYPES = frozenset({"query", "search_query"})
#: Longest part of what a client sent that is said back to it.
_QUOTED_CHARS = 100

#: How statuses are called in OpenAI's errors.
_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
#: What is called otherwise there.
_CODES: dict[type[EmberqError], str] = {Unauthorized: "invalid_api_key", ModelNotFound: "model_not_found"}

_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What happened, and what to do next."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string", "description": "Stable name; see the errors reference."},
            },
        }
    },
}
#: Shown in the OpenAPI document in place of problem details.
OPENAI_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong, in OpenAI's shape.",
        "content": {"application/json": {"schema": _ERROR_SCHEMA}},
    }
}

Body = TypeVar("Body", bound=BaseModel)


class EmbeddingsIn(BaseModel):
    """Texts to embed; fields that are not named here are ignored."""

    input: list[str] = Field(min_length=1, max_length=MOST_INPUTS, description="A text, or a list of texts.")
    model: str = Field("", description="The setting rag_embedding_model if left out.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="Only the model's own number is possible.")
    input_type: str | None = Field(
        None, description="`query` for a text that somebody waits for: it goes ahead of all others."
    )

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"example": {"input": ["How far do terns fly?"]}}
    )

    @field_validator("input", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        if isinstance(value, str):
            return [value]
        if isinstance(value, list) and any(isinstance(one, int | list) for one in value):
            msg = "token ids are not taken, as other tokenizers' ids mean nothing here; send the text"
            raise ValueError(msg)
        return value

    @property
    def is_query(self) -> bool:
        """Whether somebody waits for it."""
        return self.input_type in _QUERY_TYPES


class ClientGone(Exception):
    """The client hung up before there was an answer."""


async def body_of(request: Request, shape: type[Body]) -> Body:
    """Read and check a request's body.

    Raises:
        InvalidRequest: If it has not that shape; says where.
        RequestTooLarge: If it is too long.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BODY_BYTES:
            raise RequestTooLarge(f"The request has more than {_MOST_BODY_BYTES >> 20} MiB.")
        parts.append(part)
    try:
        return shape.model_validate_json(b"".join(parts))
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(
            f"{place}: {reason}" if place else reason, param=str(first["loc"][0]) if first["loc"] else None
        ) from exc


async def tenant_settings(tenant: str) -> RuntimeSettings:
    """Return the settings in force for a tenant, without waiting where they are known already.

    Raises:
        DatabaseUnavailable: If they are not, and PostgreSQL does not answer.
    """
    known = get_config_cache().known
    if known is None:
        known = await asyncio.to_thread(get_worker_config)
    return known.for_tenant(tenant)


async def known_model(asked: str, default: str) -> str:
    """Return the name of the embedding model a request asks for.

    Args:
        asked: As the client calls it; empty for the default.
        default: The tenant's own.

    Raises:
        ModelNotFound: If it is neither the tenant's own nor one that was pulled.
    """
    default = ALIASES.get(default, default)
    name = ALIASES.get(asked, asked)
    if not asked or name == default:
        return default
    names = [files.name for files in await asyncio.to_thread(list_models)]
    if name in names:
        return name
    known = ", ".join(sorted({default, *names}))
    raise ModelNotFound(
        f"There is no model {asked[:_QUOTED_CHARS]!r} here.",
        hint=f"Use one of: {known}; or fetch another one with `emberq models pull`.",
        param="model",
    )


async def wait_for(request: Request, future: Future[list[Result]]) -> list[Result]:
    """Wait for answers as long as the client does.

    Raises:
        ClientGone: If the client hung up; the answers are not wanted any more.
        EmberqError: As the future.
    """
    answers = asyncio.wrap_future(future)
    if answers.done():
        return answers.result()
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((answers, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answers.done():
            raise ClientGone
        return answers.result()
    finally:
        gone.cancel()
        answers.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def openai_error(error: EmberqError, status: int) -> JSONResponse:
    """Return an error in OpenAI's shape, with the hint in its message."""
    if status == InvalidRequest.status:
        status = HTTPStatus.BAD_REQUEST
    kind = _TYPES.get(status) or (
        "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    )
    message = f"{error.message.rstrip('.')}. {error.hint}".strip()
    body = {
        "message": message,
        "type": kind,
        "param": error.context.get("param"),
        "code": _CODES.get(type(error), error.code),
    }
    return JSONResponse({"error": body}, status_code=status)


def write_embeddings(
    answers: Sequence[Result], *, model: str, encoding_format: Literal["float", "base64"]
) -> str:
    """Write the answer to an embeddings request as JSON.

    Nine digits are what float32 needs to come back the same; Python's own encoder writes seventeen and
    takes twice the time.
    """
    tokens = sum(answer.tokens for answer in answers)
    parts = []
    for index, answer in enumerate(answers):
        if encoding_format == "base64":
            vector = json.dumps(base64.b64encode(answer.row.astype("<f4").tobytes()).decode())
        else:
            vector = "[" + ",".join(["%.9g"] * len(answer.row)) % tuple(answer.row.tolist()) + "]"
        parts.append(f'{{"object":"embedding","index":{index},"embedding":{vector}}}')
    usage = json.dumps({"prompt_tokens": tokens, "total_tokens": tokens})
    return f'{{"object":"list","data":[{",".join(parts)}],"model":{json.dumps(model)},"usage":{usage}}}'
