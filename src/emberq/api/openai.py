"""OpenAI's API, as far as its clients need it: request bodies, inference, responses and errors."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from emberq.api.door.bodies import too_large
from emberq.api.door.rules import TEXTS_BYTES
from emberq.api.openapi import ErrorBody, request_body
from emberq.api.problems import without_paths
from emberq.api.streams import answer_or_client_gone, body_chunks
from emberq.api.types import Text, check_text
from emberq.config.current import get_config_cache, get_worker_config
from emberq.config.runtime import RuntimeSettings
from emberq.errors import EmberqError, InvalidRequest, ModelNotFound, RequestTooLarge, Unauthorized
from emberq.models.allowed import choose_model, is_default
from emberq.models.queues import Input, ModelKey, Result

#: Paths whose errors have OpenAI's shape.
OPENAI_PATHS = ("/v1/embeddings", "/v1/models", "/v1/rerank")
#: Characters of a text that a model is given, many times what any model sees of it. A longer text is not
#: refused: clients rely on it that models ignore the rest.
_MODEL_CHARACTERS = 1 << 17
#: Most texts of one request; OpenAI's own limit.
MOST_INPUTS = 2048
#: Bytes of a body that is parsed without a thread.
_FEW_BYTES = 64 * 1024
#: What begins or follows each value in JSON; a text counts as one, whatever it contains.
_VALUES = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{,]', re.DOTALL)
#: Most such signs: `MOST_INPUTS` objects with a text each have four times as many.
_MOST_VALUES = 16 * 1024
#: Most texts that are submitted and written out without a thread.
_FEW = 64
#: Values of the field `input_type` for a text that a person waits for.
_QUERY_TYPES = frozenset({"query", "search_query"})

#: OpenAI's error types, by HTTP status.
_TYPES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.FORBIDDEN: "permission_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limit_error",
}
#: OpenAI's error codes that differ from ours.
_CODES: dict[type[EmberqError], str] = {Unauthorized: "invalid_api_key", ModelNotFound: "model_not_found"}

_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What happened and what to do next."},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string", "description": "Stable name; see the errors reference."},
            },
        }
    },
}
#: The OpenAPI description of an error in OpenAI's shape.
OPENAI_ERROR = ErrorBody("The error, in OpenAI's shape.", "application/json", _ERROR_SCHEMA)

Body = TypeVar("Body", bound=BaseModel)


def _cut(text: str) -> str:
    return check_text(text[:_MODEL_CHARACTERS])


#: A text for a model, of which no more is kept than a model may see.
ModelText = Annotated[str, AfterValidator(_cut)]


class EmbeddingsIn(BaseModel):
    """Texts to embed; fields that are not named here are ignored."""

    input: list[ModelText] = Field(
        min_length=1, max_length=MOST_INPUTS, description="A text, or a list of texts."
    )
    model: Text = Field("", description="The setting rag_embedding_model if left out.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, description="Only the model's own number is possible.")
    input_type: Text | None = Field(
        None, description="`query` for a text that a person waits for: it goes ahead of all others."
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
            msg = "token ids are not supported, because they depend on the tokenizer; send the text"
            raise ValueError(msg)
        return value

    @property
    def is_query(self) -> bool:
        """Whether a person waits for the answer."""
        return self.input_type in _QUERY_TYPES


def json_body(shape: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI description of a JSON body."""
    return request_body("application/json", shape.model_json_schema())


async def read_json(request: Request, shape: type[Body]) -> Body:
    """Read and validate a request's JSON body.

    Raises:
        InvalidRequest: If the body does not have that shape; the message names the field.
        RequestTooLarge: If the body is too long.
    """
    chunks = body_chunks(request, max_bytes=TEXTS_BYTES, too_large=too_large(TEXTS_BYTES))
    body = b"".join([chunk async for chunk in chunks])
    if len(body) <= _FEW_BYTES:
        return _parse(body, shape)
    return await asyncio.to_thread(_parse, body, shape)


def _parse(body: bytes, shape: type[Body]) -> Body:
    # The parser holds the interpreter's lock: two million empty lists would keep it for seconds.
    if next(islice(_VALUES.finditer(body), _MOST_VALUES, None), None) is not None:
        raise InvalidRequest(
            f"The body has more than {_MOST_VALUES} values.", hint=RequestTooLarge.default_hint
        )
    try:
        return shape.model_validate_json(body)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise InvalidRequest(
            f"{place}: {reason}" if place else reason, param=str(first["loc"][0]) if first["loc"] else None
        ) from exc


async def tenant_settings(tenant: str) -> RuntimeSettings:
    """Return a tenant's settings, without a thread if this process has loaded them before.

    Raises:
        DatabaseUnavailable: If it has not, and PostgreSQL does not answer.
    """
    known = get_config_cache().stored
    if known is None:
        known = await asyncio.to_thread(get_worker_config)
    return known.for_tenant(tenant)


async def known_model(asked: str, default: str) -> str:
    """Return the name of the model that a request asks for, without a thread if it is the tenant's own.

    Raises:
        ModelNotFound: As `choose_model`.
    """
    if is_default(asked, default):
        return choose_model(asked, default)
    return await asyncio.to_thread(choose_model, asked, default)


async def infer(
    request: Request, queue: str, inputs: Sequence[Input], *, tenant: str, model: ModelKey
) -> list[Result]:
    """Run a model on inputs, in batches shared with other requests.

    Args:
        request: A request whose body has been read.
        queue: The inference queue.
        inputs: Texts or pairs, as the model takes them.
        tenant: The sender's tenant.
        model: The model.

    Returns:
        One result for each input, in their order.

    Raises:
        ClientGone: If the client hangs up first; the inputs are then not computed.
        EmberqError: As `Batcher.submit`.
    """
    submit = partial(request.app.state.batcher.submit, queue, inputs, tenant=tenant, model=model)
    future = submit() if len(inputs) <= _FEW else await asyncio.to_thread(submit)
    return await answer_or_client_gone(request, asyncio.wrap_future(future))


def openai_error(_request: Request, error: EmberqError, status: int) -> JSONResponse:
    """Return an error in OpenAI's shape, with the hint in its message."""
    if status == InvalidRequest.status:
        status = HTTPStatus.BAD_REQUEST
    kind = _TYPES.get(status) or (
        "server_error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "invalid_request_error"
    )
    detail = without_paths(error.message) if status >= HTTPStatus.INTERNAL_SERVER_ERROR else error.message
    message = f"{detail.rstrip('.')}. {error.hint}".strip()
    body = {
        "message": message,
        "type": kind,
        "param": error.context.get("param"),
        "code": _CODES.get(type(error), error.code),
    }
    return JSONResponse({"error": body}, status_code=status)


async def write_embeddings(
    results: Sequence[Result], *, model: str, encoding_format: Literal["float", "base64"]
) -> str:
    """Return the response to an embeddings request as JSON; many vectors are written in a thread."""
    write = partial(_write_embeddings, results, model=model, encoding_format=encoding_format)
    return write() if len(results) <= _FEW else await asyncio.to_thread(write)


def _write_embeddings(results: Sequence[Result], *, model: str, encoding_format: str) -> str:
    """Write vectors with nine digits, which float32 needs to be read back unchanged.

    Python's own encoder writes seventeen digits and takes twice the time.
    """
    tokens = sum(result.tokens for result in results)
    parts = []
    for index, result in enumerate(results):
        if encoding_format == "base64":
            vector = json.dumps(base64.b64encode(result.row.astype("<f4").tobytes()).decode())
        else:
            vector = "[" + ",".join(["%.9g"] * len(result.row)) % tuple(result.row.tolist()) + "]"
        parts.append(f'{{"object":"embedding","index":{index},"embedding":{vector}}}')
    usage = json.dumps({"prompt_tokens": tokens, "total_tokens": tokens})
    return f'{{"object":"list","data":[{",".join(parts)}],"model":{json.dumps(model)},"usage":{usage}}}'
