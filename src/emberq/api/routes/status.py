"""`/workers` and `/stats`: the workers, their hosts, and counts of documents and jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from redis.exceptions import RedisError, ResponseError
from rq.utils import as_text
from rq.worker import Worker

from emberq.api.auth import Reader, ServicesDep
from emberq.errors import RedisUnavailable
from emberq.store.admin.hosts import list_hosts
from emberq.store.jobs.queries import own_tickets
from emberq.store.jobs.stats import read_stats
from emberq.store.services import Services
from emberq.worker.rq.heartbeat import heartbeat_key

router = APIRouter(tags=["status"])


class WorkerOut(BaseModel):
    """A worker."""

    name: str
    host: str | None
    pid: int | None
    state: str
    ticket: str | None
    heartbeat_age_seconds: float | None
    alive: bool


class HostOut(BaseModel):
    """A host that runs workers."""

    id: uuid.UUID
    name: str
    pid: int
    workers: int
    started_at: datetime
    beat_at: datetime
    alive: bool
    config_version: int


class WorkersOut(BaseModel):
    """All workers and their hosts."""

    items: list[WorkerOut]
    hosts: list[HostOut]


class StatsOut(BaseModel):
    """Counts of the caller's documents and jobs."""

    jobs: dict[str, int]
    collections: int
    files: int
    chunks: int
    queue_oldest_seconds: float
    backlog_seconds: float


def list_workers(services: Services) -> list[WorkerOut]:
    """Return the workers that Redis knows.

    Raises:
        RedisUnavailable: If Redis does not answer.
    """
    connection = services.redis()
    found = []
    try:
        for key in connection.smembers(Worker.redis_workers_keys):
            # A key that cannot be read hides no other one: any writer to Redis can make such a key.
            with contextlib.suppress(ValueError, TypeError, ResponseError):
                worker = Worker.find_by_key(as_text(key), connection=connection)
                if worker is not None:
                    found.append(_describe(worker, connection.get(heartbeat_key(worker.name))))
    except (RedisError, OSError) as exc:
        raise RedisUnavailable from exc
    return sorted(found, key=lambda worker: worker.name)


def _describe(worker: Any, heartbeat: Any) -> WorkerOut:
    age = time.time() - int(as_text(heartbeat)) if heartbeat else None
    return WorkerOut(
        name=worker.name,
        host=worker.hostname,
        pid=worker.pid,
        state=worker.get_state(),
        ticket=worker.get_current_job_id(),
        heartbeat_age_seconds=age,
        alive=age is not None,
    )


@router.get("/workers")
def workers(caller: Reader, services: ServicesDep) -> WorkersOut:
    """List the workers and their hosts; other tenants' tickets are shown to admins only."""
    found = list_workers(services)
    with services.database.tenant_transaction(caller.tenant) as connection:
        hosts = list_hosts(connection)
        if "admin" not in caller.scopes:
            tickets = [worker.ticket for worker in found if worker.ticket is not None]
            own = own_tickets(connection, caller.tenant, tickets)
            for worker in found:
                worker.ticket = worker.ticket if worker.ticket in own else None
    return WorkersOut(items=found, hosts=[HostOut(**host) for host in hosts])


@router.get("/stats")
def stats(caller: Reader, services: ServicesDep) -> StatsOut:
    """Count the caller's jobs, files and chunks."""
    with services.database.tenant_transaction(caller.tenant) as connection:
        return StatsOut(**dataclasses.asdict(read_stats(connection, caller.tenant)))
