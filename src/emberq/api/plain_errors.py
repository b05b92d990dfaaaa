"""Routes that answer failures with one plain sentence in place of a problem document."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute

from emberq.api.problems import problem_response
from emberq.api.user_messages import sentence
from emberq.errors import EmberqError, InternalError, InvalidRequest
from emberq.telemetry.logs import get_logger

__all__ = ["PLAIN_RESPONSES", "PlainRoute"]

log = get_logger(__name__)

#: What such a route may answer with besides; shown in the OpenAPI document.
PLAIN_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What happened to the file and what to do, in one sentence.",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
}


class PlainRoute(APIRoute):
    """A route whose clients show the body of a failure to people as it is.

    Its handler puts the file's name, once it is known, into `request.state.file_name`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler."""
        handle = super().get_route_handler()

        async def handle_plainly(request: Request) -> Response:
            try:
                return await handle(request)
            except EmberqError as exc:
                error = exc
            except RequestValidationError:
                error = InvalidRequest()
            except Exception as exc:
                log.exception("request_crashed", path=request.url.path, error=type(exc).__name__)
                error = InternalError()
            log.warning("file_not_read", path=request.url.path, error_code=error.code, error=error.message)
            problem = problem_response(error, instance=request.url.path)
            headers = {
                name: value
                for name, value in problem.headers.items()
                if name in {"retry-after", "www-authenticate"}
            }
            text = sentence(error, getattr(request.state, "file_name", None))
            return PlainTextResponse(text, status_code=error.status, headers=headers)

        return handle_plainly
