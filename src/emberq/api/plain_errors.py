"""Routes that answer a failure with one plain sentence instead of a problem document."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute

from emberq.api.openapi import error_responses
from emberq.api.problems import problem_response
from emberq.api.streams import ClientGone
from emberq.api.user_messages import user_message
from emberq.errors import EmberqError, InternalError, InvalidRequest
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: The OpenAPI description of such an answer.
PLAIN_RESPONSES = error_responses(
    "What happened to the file and what to do, in one sentence.", "text/plain", {"type": "string"}
)


class PlainErrorRoute(APIRoute):
    """A route for clients that show the body of an error response to people, unchanged.

    The handler stores the file's name in `request.state.file_name` as soon as it knows it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, wrapped: errors become plain sentences."""
        handle = super().get_route_handler()

        async def handle_plainly(request: Request) -> Response:
            try:
                return await handle(request)
            except ClientGone:
                raise
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
            text = user_message(error, getattr(request.state, "file_name", None))
            return PlainTextResponse(text, status_code=error.status, headers=headers)

        return handle_plainly
