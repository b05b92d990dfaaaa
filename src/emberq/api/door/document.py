"""The OpenAPI document, with every status that each operation may answer with."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI

from emberq.api.door.rules import Body, rule_for
from emberq.api.openapi import ErrorBody

#: Statuses of every request: it is not HTTP, its path or query is not text, or its headers are too long.
_ALWAYS: Final = {400, 422, 431}
#: Statuses of requests with a key: it is not valid, lacks a scope, or sends too much; the body is too slow or
#: too long; an engine is away.
_WITH_KEY: Final = {401, 403, 408, 413, 429, 503}
#: Statuses of single operations, by method and path.
_FURTHER: Final[Mapping[str, set[int]]] = {
    "GET /metrics": {401},
    "GET /readyz": {503},
    "POST /api/v1/collections": {404},
    "POST /api/v1/jobs/cancel": {404},
    "POST /api/v1/jobs/retry": {404},
    "POST /api/v1/pauses": {404},
    "DELETE /api/v1/pauses": {404},
    "POST /v1/embeddings": {404},
    "POST /v1/rerank": {404},
    "POST /api/v1/collections/{name}/files": {409},
}
#: Statuses of a file that is converted while the request waits: what is wrong with it, or with its job.
_OF_CONVERSIONS: Final = {404, 409, 415, 500}


def describe_statuses(app: FastAPI, *, usual: ErrorBody, shapes: Mapping[str, ErrorBody]) -> None:
    """Let the application's OpenAPI document list the error responses of each operation.

    Args:
        app: The application.
        usual: The shape of error responses.
        shapes: Other shapes, by path.
    """
    make = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = make()
            for path, operations in made["paths"].items():
                for method, operation in operations.items():
                    _describe(operation, method.upper(), path, shapes.get(path, usual))
            for unused in ("HTTPValidationError", "ValidationError"):
                made["components"]["schemas"].pop(unused, None)
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign]


def _describe(operation: dict[str, Any], method: str, path: str, shape: ErrorBody) -> None:
    rule = rule_for(method, path)
    statuses = _ALWAYS | _FURTHER.get(f"{method} {path}", set())
    if rule.needs_key:
        statuses |= _WITH_KEY
        operation.setdefault("security", [{"HTTPBearer": []}])
    if "{" in path:
        statuses |= {404}
    if rule.body is Body.FILE and rule.waits:
        statuses |= _OF_CONVERSIONS
    for status in sorted(statuses):
        description = HTTPStatus(status).phrase
        content = {shape.media_type: {"schema": shape.schema}}
        answer = {"description": f"{description}. {shape.description}", "content": content}
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
        operation["responses"][str(status)] = answer
