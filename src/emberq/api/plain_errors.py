"""Routes that answer a failure with one plain sentence instead of a problem document."""

from __future__ import annotations

from urllib.parse import unquote

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute

from emberq.api.conversions import clean_name
from emberq.api.openapi import ErrorBody
from emberq.api.user_messages import user_message
from emberq.errors import EmberqError, Unauthorized
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)


#: The OpenAPI description of such an answer.
PLAIN_ERROR = ErrorBody(
    "What happened to the file and what to do, in one sentence.", "text/plain", {"type": "string"}
)


class PlainErrorRoute(APIRoute):
    """A route for clients that show the body of an error response to people, unchanged.

    The handler stores the file's name in `request.state.file_name` as soon as it knows it.
    """


def plain_error(request: Request, error: EmberqError, status: int) -> Response:
    """Return an error as one plain sentence about the request's file."""
    # Anyone may be refused for want of a key, again and again.
    if not isinstance(error, Unauthorized):
        log.warning("file_not_read", path=request.url.path, error_code=error.code, error=error.message)
    # A request that is refused at the front door has no handler that knows the name.
    sent = clean_name(unquote(request.headers.get("x-filename", "")))
    text = user_message(error, getattr(request.state, "file_name", sent) or None)
    return PlainTextResponse(text, status_code=status)
