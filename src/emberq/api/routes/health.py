"""`/healthz`, `/readyz`, `/metrics`: for orchestrators and monitors, without a key."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy import text

from emberq.api.auth import ServicesDep
from emberq.api.metrics import render_metrics
from emberq.errors import DatabaseUnavailable, EmberqError, StorageUnavailable
from emberq.store.admin.hosts import list_hosts
from emberq.store.services import Services

__all__ = ["router"]

router = APIRouter(tags=["health"])

#: A replica, and a server that somebody set to read only, would refuse every upload.
_TAKES_WRITES = text("SELECT current_setting('transaction_read_only') = 'off'")


class HealthOut(BaseModel):
    """The process answers."""

    status: str


class ReadyOut(BaseModel):
    """Whether uploads are taken and processed; `checks` says which part is not well."""

    status: str
    checks: dict[str, str]


@router.get("/healthz")
def healthz() -> HealthOut:
    """Tell that the process answers."""
    return HealthOut(status="ok")


@router.get("/readyz")
def readyz(services: ServicesDep, response: Response) -> ReadyOut:
    """Tell whether emberq can do its work: 503 while the database, Redis or the blob store is away."""
    checks = {
        "database": _check_database(services),
        "redis": _check_redis(services),
        "blobs": _check_blobs(services),
    }
    ready = set(checks.values()) == {"ok"}
    checks["workers"] = _check_workers(services) if checks["database"] == "ok" else "unknown"
    if not ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = "2"
    return ReadyOut(status="ok" if ready else "unavailable", checks=checks)


def _check_database(services: Services) -> str:
    try:
        with services.database.transaction() as connection:
            takes_writes = connection.execute(_TAKES_WRITES).scalar_one()
    except DatabaseUnavailable as exc:
        return exc.code
    if not takes_writes:
        # Sessions keep what they began with: the next look must not be on one of these.
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
        return exc.message
    return "ok"


def _check_workers(services: Services) -> str:
    try:
        with services.database.transaction() as connection:
            alive = sum(host["workers"] for host in list_hosts(connection) if host["alive"])
    except EmberqError as exc:
        return exc.code
    return f"{alive} alive" if alive else "none alive"


@router.get("/metrics", response_class=Response)
def metrics(services: ServicesDep) -> Response:
    """Prometheus metrics in the text format."""
    body, content_type = render_metrics(services)
    return Response(body, media_type=content_type)
