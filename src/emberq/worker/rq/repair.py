"""Repair of Redis: keys of RQ's that hold another type than RQ writes are deleted."""

from __future__ import annotations

from collections.abc import Mapping

from redis import Redis
from rq.intermediate_queue import IntermediateQueue
from rq.queue import Queue
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ReadyJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

_REGISTRIES = (
    *(CanceledJobRegistry, DeferredJobRegistry, FailedJobRegistry, FinishedJobRegistry),
    *(ReadyJobRegistry, ScheduledJobRegistry, StartedJobRegistry),
)


def keys_of_queue(name: str) -> dict[str, str]:
    """Return the type of each key that RQ's workers need for a queue."""
    queue_key = f"{Queue.redis_queue_namespace_prefix}{name}"
    return {
        queue_key: "list",
        IntermediateQueue.get_intermediate_queue_key(queue_key): "list",
        Queue.redis_queues_keys: "set",
        REDIS_WORKER_KEYS: "set",
        WORKERS_BY_QUEUE_KEY % name: "set",
        **{registry.key_template.format(name): "zset" for registry in _REGISTRIES},
    }


def delete_mistyped(connection: Redis, types: Mapping[str, str]) -> list[str]:
    """Delete the keys that are not of their type, and return them.

    Args:
        connection: Redis.
        types: The type of each key, as TYPE returns it. A key that does not exist is left.

    Raises:
        RedisError: If Redis does not answer or refuses.
    """
    with connection.pipeline(transaction=False) as pipeline:
        for key in types:
            pipeline.type(key)
        found = [answer.decode() for answer in pipeline.execute()]
    mistyped = [
        key for (key, wanted), is_ in zip(types.items(), found, strict=True) if is_ not in (wanted, "none")
    ]
    if mistyped:
        connection.delete(*mistyped)
        log.error("redis_keys_deleted", keys=mistyped, reason="of another type than RQ writes")
    return mistyped
