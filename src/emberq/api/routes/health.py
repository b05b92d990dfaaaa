"""`/healthz`, `/readyz` and `/metrics`, for orchestrators and monitoring; they need no key."""

from __future__ import annotations

import hmac
from http import HTTPStatus

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy import text

from emberq.api.auth import ServicesDep, sent_key
from emberq.api.door.shared import SharedAnswer, send_in_pieces
from emberq.api.metrics import render_metrics
from emberq.api.problems import without_paths
from emberq.dispatch.tickets import queue_error
from emberq.errors import DatabaseUnavailable, EmberqError, StorageUnavailable, Unauthorized
from emberq.store.admin.hosts import list_hosts
from emberq.store.services import Services

router = APIRouter(tags=["health"])

#: False on a replica and on a server set to read-only; both refuse every upload.
_ACCEPTS_WRITES = text("SELECT current_setting('transaction_read_only') = 'off'")


class HealthOut(BaseModel):
    """The state of the process: `ok` whenever it answers."""

    status: str


class ReadyOut(BaseModel):
    """Whether uploads are accepted and processed; `checks` has the state of each part."""

    status: str
    checks: dict[str, str]


@router.get("/healthz")
async def healthz() -> HealthOut:
    """Answer `ok`; shows that the process is alive."""
    # Not in a thread: all threads may be at work.
    return HealthOut(status="ok")


@router.get("/readyz")
async def readyz(request: Request, services: ServicesDep, response: Response) -> ReadyOut:
    """Check database, Redis, the queue in it, blob store and workers; 503 if one of the first four fails."""
    shared: SharedAnswer[ReadyOut] = request.app.state.readiness
    answer = await shared.get(lambda: anyio.to_thread.run_sync(_check, services))
    if answer.status != "ok":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = "2"
    return answer


def _check(services: Services) -> ReadyOut:
    checks = {
        "database": _check_database(services),
        "redis": _check_redis(services),
        "queue": queue_error(services.redis()) or "ok",
        "blobs": _check_blobs(services),
    }
    ready = set(checks.values()) == {"ok"}
    checks["workers"] = _check_workers(services) if checks["database"] == "ok" else "unknown"
    return ReadyOut(status="ok" if ready else "unavailable", checks=checks)


def _check_database(services: Services) -> str:
    try:
        with services.database.transaction() as connection:
            accepts_writes = connection.execute(_ACCEPTS_WRITES).scalar_one()
    except DatabaseUnavailable as exc:
        return exc.code
    if not accepts_writes:
        # A session keeps the mode it began with, so the next check needs a new session.
        services.database.close()
        return "read_only"
    return "ok"


def _check_redis(services: Services) -> str:
    try:
        services.redis().ping()
    except (RedisError, OSError):
        return "redis_unavailable"
    return "ok"


def _check_blobs(services: Services) -> str:
    try:
        services.blobs.check()
    except StorageUnavailable as exc:
        return without_paths(exc.message)
    return "ok"


def _check_workers(services: Services) -> str:
    try:
        with services.database.transaction() as connection:
            alive = sum(host["workers"] for host in list_hosts(connection) if host["alive"])
    except EmberqError as exc:
        return exc.code
    return f"{alive} alive" if alive else "none alive"


@router.get("/metrics", response_class=Response)
async def metrics(request: Request, services: ServicesDep) -> Response:
    """Return the metrics in Prometheus's text format; asks for `EMBERQ_METRICS_KEY` if that is set."""
    wanted = services.environment.metrics_key
    if wanted is not None:
        sent = sent_key(request.headers)
        if not hmac.compare_digest(sent.encode(), wanted.get_secret_value().encode()):
            raise Unauthorized
    shared: SharedAnswer[tuple[bytes, str]] = request.app.state.metrics
    body, content_type = await shared.get(lambda: anyio.to_thread.run_sync(render_metrics, services))
    return send_in_pieces(body, media_type=content_type)
