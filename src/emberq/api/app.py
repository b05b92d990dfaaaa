"""The FastAPI application, and the process that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import resource
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import cast

import anyio.to_thread
import uvicorn
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import RedirectResponse

from emberq.api.auth import KeyCache
from emberq.api.docs import page as docs
from emberq.api.door.connection import DoorProtocol, drop_unread
from emberq.api.door.document import describe_statuses
from emberq.api.door.front_door import FrontDoor
from emberq.api.door.headers import SecurityHeaders
from emberq.api.door.request_metrics import RequestMetrics
from emberq.api.door.shared import SharedAnswer, send_in_pieces
from emberq.api.job_feed import JobFeed
from emberq.api.openai import OPENAI_ERROR, OPENAI_PATHS, openai_error
from emberq.api.plain_errors import PLAIN_ERROR, PlainErrorRoute, plain_error
from emberq.api.problems import PROBLEM, install_problem_handlers
from emberq.api.routes import (
    audit,
    collections,
    docling,
    embeddings,
    events,
    files,
    health,
    jobs,
    keys,
    pauses,
    rerank,
    settings,
    status,
    tika,
)
from emberq.dispatch.conversion import JobEnds
from emberq.dispatch.maintenance import Maintenance
from emberq.dispatch.settings_listener import SettingsListener
from emberq.errors import InvalidRequest
from emberq.models.batcher import Batcher, queue_specs
from emberq.models.cache import StoredVectors
from emberq.pipeline.resources import get_model
from emberq.store.services import get_services
from emberq.system.memory import FreedMemory
from emberq.telemetry import metrics
from emberq.visible import host_and_port

#: Seconds that open requests get to finish when the API stops.
_SHUTDOWN_SECONDS = 5
#: Connections that may wait to be accepted: clients open one for each text of a file, all at once. The
#: kernel's own limit, net.core.somaxconn, may be lower.
_BACKLOG = 4096
#: Ticks of the server, of a tenth of a second, between two checks of its connections.
_TICKS_PER_CHECK = 10
#: Seconds for which a thread keeps the interpreter while others wait. With Python's own 5 ms, forty threads
#: that write large answers keep the event loop waiting for a fifth of a second each time.
_SWITCH_SECONDS = 0.001
#: Ticks between two looks at how much freed memory this process keeps.
_TICKS_PER_RETURN = 50
#: The wanted limit of open files; each connection is one.
_OPEN_FILES = 65536


def make_app(
    *, maintenance: bool = True, ready: Callable[[], None] = lambda: None, routers: Sequence[APIRouter] = ()
) -> FastAPI:
    """Build the application on the services of this process.

    Args:
        maintenance: Whether this process also runs the maintenance of jobs, in a thread.
        ready: Called once, when requests are answered.
        routers: Further routes, outside of `/api/v1`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        bodies = {"emberq-config": SettingsListener(get_services(), name="api").run}
        if maintenance:
            bodies["emberq-maintenance"] = Maintenance(get_services()).run
        threads = [
            threading.Thread(target=body, args=(stop,), name=name, daemon=True)
            for name, body in bodies.items()
        ]
        for thread in threads:
            thread.start()
        batcher.start()
        ready()
        yield
        batcher.close()
        stop.set()
        for thread in threads:
            thread.join(timeout=_SHUTDOWN_SECONDS)

    # Does nothing under a supervisor, which has enabled them for the whole host.
    metrics.enable()
    app = FastAPI(
        title="emberq",
        version=version("emberq"),
        summary="Documents in, searchable vectors out, nothing lost on the way.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # They would lead to the host that the request names, and over plain HTTP.
        redirect_slashes=False,
    )
    batcher = Batcher(
        queue_specs(bulk_threads=get_services().environment.embedding_threads),
        load=get_model,
        stored=StoredVectors(get_services),
    )
    app.state.batcher = batcher
    app.state.readiness = SharedAnswer(seconds=0.0)
    app.state.metrics = SharedAnswer(seconds=0.0)
    app.state.job_ends = JobEnds(get_services)
    plain = [*tika.router.routes, *(route for router in routers for route in router.routes)]
    shapes = {route.path: plain_error for route in plain if isinstance(route, PlainErrorRoute)}
    install_problem_handlers(app, shapes={**dict.fromkeys(OPENAI_PATHS, openai_error), **shapes})
    keys_known = KeyCache()
    app.state.job_feed = JobFeed(get_services, keys_known)
    app.add_middleware(FrontDoor, keys=keys_known, ends=app.state.job_ends)
    app.add_middleware(RequestMetrics)
    app.add_middleware(SecurityHeaders)
    # First, because routes are tried in this order, and these get thousands of requests.
    for router in (embeddings.router, rerank.router):
        app.include_router(router)
    api = APIRouter(prefix="/api/v1")
    for module in (collections, files, events, jobs, pauses, settings, keys, audit, status):
        api.include_router(module.router)
    app.include_router(api)
    for router in (docs.router, health.router, docling.router, tika.router, *routers):
        app.include_router(router)

    openai, sentences = dict.fromkeys(OPENAI_PATHS, OPENAI_ERROR), dict.fromkeys(shapes, PLAIN_ERROR)
    describe_statuses(app, usual=PROBLEM, shapes={**openai, **sentences})

    _serve_description(app)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


def _serve_description(app: FastAPI) -> None:
    """Serve the OpenAPI document, written once: FastAPI's own route writes it anew for each request."""
    shared = SharedAnswer[bytes](seconds=math.inf)

    def write() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        body = await shared.get(lambda: anyio.to_thread.run_sync(write))
        return send_in_pieces(body, media_type="application/json")


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the API's address.

    Call it before anything else starts, so that a port in use is reported at once.

    Raises:
        InvalidRequest: If the address cannot be bound; the message has the reason.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as exc:
        listener.close()
        raise InvalidRequest(
            f"Cannot listen on {host_and_port(host, port)}: {exc.strerror or exc}.",
            hint="Stop the program that uses the port, or choose another port with --port.",
        ) from exc
    listener.listen(_BACKLOG)
    return listener


def serve(
    listener: socket.socket, *, ready: Callable[[], None] = lambda: None, routers: Sequence[APIRouter] = ()
) -> None:
    """Serve the API on a listening socket until SIGTERM or SIGINT."""
    _allow_connections()
    sys.setswitchinterval(_SWITCH_SECONDS)
    make_server(make_app(ready=ready, routers=routers)).run(sockets=[listener])


def make_server(app: FastAPI) -> uvicorn.Server:
    """Return a server for the application; it can run once."""
    protocol = partial(
        DoorProtocol, addresses=Counter(), most=get_services().environment.max_connections_per_address
    )
    config = uvicorn.Config(
        app,
        http=cast("type[DoorProtocol]", protocol),
        ws="none",
        log_config=None,
        access_log=False,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    return _ApiServer(
        config, on_shutdown=(app.state.batcher.stop, app.state.job_ends.stop, app.state.job_feed.stop)
    )


class _ApiServer(uvicorn.Server):
    """A server that ends connections that are too slow, and returns the memory of large answers.

    When it stops, it first ends the requests that wait for models and jobs; their wait has no time limit.
    """

    def __init__(self, config: uvicorn.Config, *, on_shutdown: Sequence[Callable[[], None]]) -> None:
        super().__init__(config)
        self._on_shutdown = on_shutdown
        self._freed = FreedMemory()
        self._returning: asyncio.Future[None] | None = None

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_CHECK == 0:
            now = time.monotonic()
            connections = [one for one in self.server_state.connections if isinstance(one, DoorProtocol)]
            for connection in connections:
                connection.check(now)
            drop_unread(connections)
        if counter % _TICKS_PER_RETURN == 0 and (self._returning is None or self._returning.done()):
            self._returning = asyncio.ensure_future(asyncio.to_thread(self._freed.give_back))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for end_waiting in self._on_shutdown:
            end_waiting()
        await super().shutdown(sockets)


def _allow_connections() -> None:
    """Raise the soft limit of open files to `_OPEN_FILES`, or to the hard limit if that is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
