"""Request metrics: the time to the first byte of each response, by route template."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from emberq.api.problems import METHODS
from emberq.telemetry import metrics

#: The label of all methods that no route has, and of all requests that reach no route: clients invent them,
#: and each label is a series for ever.
_OTHER = "other"


class RequestMetrics:
    """ASGI middleware that measures requests.

    Unlike Starlette's `BaseHTTPMiddleware` it starts no task for each request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and measure its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                metrics.observe_request(
                    route=getattr(scope.get("route"), "path", _OTHER),
                    method=scope["method"] if scope["method"] in METHODS else _OTHER,
                    status=message["status"],
                    seconds=time.perf_counter() - started,
                )
            await send(message)

        await self._app(scope, receive, measured)
