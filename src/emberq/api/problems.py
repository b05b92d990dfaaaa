"""Errors as RFC 9457 problem details: a stable code, what happened, what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeAlias

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from emberq.api.openapi import ErrorBody
from emberq.api.streams import ClientGone
from emberq.errors import EmberqError, InternalError, InvalidRequest
from emberq.telemetry.logs import get_logger

#: Makes the response to an error of a request, with this status.
ErrorShape: TypeAlias = Callable[[Request, EmberqError, int], Response]

log = get_logger(__name__)

#: Seconds after which a client may try again when emberq is over capacity or an engine is away.
_RETRY_AFTER_SECONDS = 2
#: Statuses that ask the client to try again.
_TRY_AGAIN = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
#: The status that web servers record for a client that hung up; it is seen only in the metrics.
_CLIENT_GONE = 499
#: Methods that some route has. Any other is refused before the routing, and is one label in the metrics.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
#: An absolute path.
_PATH = re.compile(r"(?<![\w/:.])/[^\s:,;'\"()]+")
#: Most characters of the reasons for which a request is refused; a body may have thousands of wrong fields.
_MOST_REASONS = 2000

_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "hint", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable name; see the errors reference."},
        "hint": {"type": "string", "description": "What to do next."},
        "instance": {"type": "string", "description": "The requested path."},
    },
}

#: The OpenAPI description of a problem document.
PROBLEM = ErrorBody("The error, as problem details (RFC 9457).", "application/problem+json", _PROBLEM_SCHEMA)


def problem_response(error: EmberqError, *, instance: str, status: int | None = None) -> JSONResponse:
    """Return the response to an error, with Retry-After if the client should try again."""
    code = status or error.status
    body: dict[str, Any] = {
        "type": f"/docs/errors#{error.code}",
        "title": (type(error).__doc__ or "").strip().splitlines()[0],
        "status": code,
        "detail": without_paths(error.message) if code >= HTTPStatus.INTERNAL_SERVER_ERROR else error.message,
        "code": error.code,
        "hint": error.hint,
        "instance": instance,
    }
    body |= {key: str(error.context[key]) for key in ("job_id", "file_id", "stage") if key in error.context}
    headers = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if code in _TRY_AGAIN else {}
    if code == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=code, headers=headers, media_type="application/problem+json")


def without_paths(message: str) -> str:
    """Return a message without the paths of files on the server."""
    return _PATH.sub("a file of the server", message)


def install_problem_handlers(app: FastAPI, *, shapes: Mapping[str, ErrorShape]) -> None:
    """Answer every failure of the application with a problem document.

    Args:
        app: The application.
        shapes: Other error shapes, by the path whose clients expect them.
    """
    app.state.error_shapes = shapes
    app.add_exception_handler(EmberqError, _on_emberq_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(Exception, _on_crash)


def answer(request: Request, error: EmberqError, *, status: int | None = None) -> Response:
    """Return the response to an error in the shape that the path's clients expect."""
    problem = problem_response(error, instance=request.url.path, status=status)
    shape: ErrorShape | None = request.app.state.error_shapes.get(request.url.path)
    if shape is None:
        return problem
    shaped = shape(request, error, problem.status_code)
    for name in ("Retry-After", "WWW-Authenticate"):
        if name in problem.headers:
            shaped.headers[name] = problem.headers[name]
    return shaped


def method_not_allowed(request: Request, allowed: Iterable[str]) -> Response:
    """Return the response to a method that the path does not have."""
    method = request.method if request.method in METHODS else "This method"
    problem = InvalidRequest(f"{method} is not allowed at {request.url.path}.")
    response = answer(request, problem, status=HTTPStatus.METHOD_NOT_ALLOWED)
    response.headers["Allow"] = ", ".join(allowed)
    return response


async def _on_emberq_error(request: Request, error: Exception) -> Response:
    known = error if isinstance(error, EmberqError) else InternalError()
    if known.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("request_failed", path=request.url.path, error_code=known.code, error=known.message)
    return answer(request, known)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    reasons = []
    if isinstance(error, RequestValidationError):
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"] if part != "body")
            reason = str(item["msg"]).removeprefix("Value error, ")
            reasons.append(f"{place}: {reason}" if place else reason)
    return answer(request, InvalidRequest("; ".join(reasons)[:_MOST_REASONS] or None))


async def _on_http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == HTTPStatus.NOT_FOUND:
        problem = InvalidRequest(
            f"There is nothing at {request.url.path}.", hint="See /openapi.json for the paths."
        )
    elif status == HTTPStatus.METHOD_NOT_ALLOWED:
        return method_not_allowed(request, [(getattr(error, "headers", None) or {}).get("Allow", "")])
    else:
        problem = InvalidRequest(str(getattr(error, "detail", "")) or None)
    response = answer(request, problem, status=status)
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=_CLIENT_GONE)


async def _on_crash(request: Request, error: Exception) -> Response:
    log.error("request_crashed", path=request.url.path, error=type(error).__name__, exc_info=error)
    return answer(request, InternalError())
