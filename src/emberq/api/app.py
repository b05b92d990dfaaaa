"""The FastAPI application and the process that serves it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib.metadata import version

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from emberq.api.problems import PROBLEM_RESPONSES, install_problem_handlers
from emberq.api.routes import (
    collections,
    docling,
    events,
    files,
    health,
    jobs,
    keys,
    pauses,
    settings,
    status,
    tika,
)
from emberq.dispatch.configuration import ConfigurationFollower
from emberq.dispatch.conversion import JobEnds
from emberq.dispatch.keeper import Keeper
from emberq.errors import InvalidRequest
from emberq.store.services import get_services
from emberq.telemetry import metrics

__all__ = ["make_app", "open_listener", "serve"]

#: Seconds open requests get to finish when the API stops.
_SHUTDOWN_SECONDS = 5


def make_app(
    *, keep: bool = True, ready: Callable[[], None] = lambda: None, routers: Sequence[APIRouter] = ()
) -> FastAPI:
    """Build the application on the services of this process.

    Args:
        keep: Whether this process also admits, sweeps and reaps jobs in the background.
        ready: Called once when requests are answered.
        routers: Further routes, outside of `/api/v1`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        bodies = {"emberq-config": ConfigurationFollower(get_services(), name="api").run}
        if keep:
            bodies["emberq-keeper"] = Keeper(get_services()).run
        threads = [
            threading.Thread(target=body, args=(stop,), name=name, daemon=True)
            for name, body in bodies.items()
        ]
        for thread in threads:
            thread.start()
        ready()
        yield
        stop.set()
        for thread in threads:
            thread.join(timeout=_SHUTDOWN_SECONDS)

    # Under a supervisor they are on already, and shared with the whole host.
    metrics.enable()
    app = FastAPI(
        title="emberq",
        version=version("emberq"),
        summary="Documents in, searchable vectors out, nothing lost on the way.",
        lifespan=lifespan,
        responses=PROBLEM_RESPONSES,
    )
    install_problem_handlers(app)
    api = APIRouter(prefix="/api/v1")
    for module in (collections, files, events, jobs, pauses, settings, keys, status):
        api.include_router(module.router)
    app.include_router(api)
    for router in (health.router, docling.router, tika.router, *routers):
        app.include_router(router)
    app.state.job_ends = JobEnds(get_services)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    @app.middleware("http")
    async def measure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started = time.perf_counter()
        response = await call_next(request)
        route = getattr(request.scope.get("route"), "path", "unknown")
        metrics.request_answered(
            route=route,
            method=request.method,
            status=response.status_code,
            seconds=time.perf_counter() - started,
        )
        return response

    return app


def open_listener(host: str, port: int) -> socket.socket:
    """Bind the API's address before anything else starts, so that a taken port is told at once.

    Raises:
        InvalidRequest: If the address cannot be bound; says why.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise InvalidRequest(
            f"Cannot listen on {host}:{port}: {exc.strerror or exc}.",
            hint="Stop what uses the port, or choose another one with --port.",
        ) from exc
    listener.listen(2048)
    return listener


def serve(
    listener: socket.socket, *, ready: Callable[[], None] = lambda: None, routers: Sequence[APIRouter] = ()
) -> None:
    """Serve the API on a listening socket until SIGTERM or SIGINT.

    Args:
        listener: The socket.
        ready: Called once when requests are answered.
        routers: Further routes, outside of `/api/v1`.
    """
    app = make_app(ready=ready, routers=routers)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=_SHUTDOWN_SECONDS
    )
    _Server(config, app.state.job_ends).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Answers requests that wait for a job before it lets go of them: nobody can say how long they would."""

    def __init__(self, config: uvicorn.Config, ends: JobEnds) -> None:
        super().__init__(config)
        self._ends = ends

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ends.leave()
        await super().shutdown(sockets)
