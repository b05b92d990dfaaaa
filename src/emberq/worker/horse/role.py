"""Recipes: how a fresh interpreter rebuilds the worker whose jobs it runs.

A forked horse inherits the worker object. A spawned one is told, over its channel, never by argument or
environment: those can be read by others, and the recipe may hold the password of Redis.
"""

from __future__ import annotations

import base64
import importlib
import pickle
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.connection import ConnectionPool
from redis.sentinel import Sentinel, SentinelConnectionPool
from rq.connections import get_connection_kwargs

from emberq.system.messages import Message
from emberq.worker.horse.process import run_horse
from emberq.worker.rq.base import HorseWorker

if TYPE_CHECKING:
    from redis import Redis

__all__ = ["Configuration", "HorseRole", "describe_worker", "rebuild_worker"]

#: What RQ's own SpawnWorker hands to its child besides the constructor's arguments, and our limits.
_ATTRIBUTES = (
    *("death_penalty_class", "default_result_ttl", "job_monitoring_interval", "log_job_description"),
    *("log_result_lifespan", "disable_default_exception_handler", "_exc_handlers", "policy"),
)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a spawned process calls before it loads resources.

    Attributes:
        call: The function, as `module:name`.
        arguments: Its keyword arguments, as JSON can write them.
    """

    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def apply(self) -> None:
        """Make the call."""
        module, _, name = self.call.partition(":")
        getattr(importlib.import_module(module), name)(**self.arguments)


@dataclass(frozen=True, slots=True)
class HorseRole:
    """The preloader's role `horse`: forked, or spawned where a resource does not survive a fork.

    Attributes:
        make_worker: Makes the worker whose jobs the horse runs, from the fork request's spec.
        configuration: What a spawned horse needs first.
    """

    make_worker: Callable[[Message], HorseWorker]
    configuration: Configuration | None = None

    def __call__(self, spec: Message, channel: socket.socket) -> None:
        """Be the horse, in a forked child."""
        run_horse(self.make_worker(spec), channel)

    def recipe(self, spec: Message) -> Message:
        """Return what a spawned process needs to be the same horse.

        Raises:
            ValueError: If the worker uses something that another process cannot import.
        """
        recipe: Message = {"worker": describe_worker(self.make_worker(spec))}
        if self.configuration is not None:
            recipe["configure"] = {
                "call": self.configuration.call,
                "arguments": dict(self.configuration.arguments),
            }
        return recipe


def describe_worker(worker: HorseWorker) -> str:
    """Write down a worker, with its connection, for `rebuild_worker` in another process.

    Raises:
        ValueError: If its class, a class it uses or a handler cannot be imported elsewhere.
    """
    described = {
        "class": type(worker),
        "arguments": {
            "queues": [queue.name for queue in worker.queues],
            "name": worker.name,
            "job_class": worker.job_class,
            "queue_class": worker.queue_class,
            "serializer": worker._serializer_arg,  # noqa: SLF001 - as RQ's SpawnWorker does
        },
        "attributes": {name: getattr(worker, name) for name in _ATTRIBUTES if hasattr(worker, name)},
        "redis": _describe_redis(worker.connection),
    }
    try:
        for thing in (type(worker), worker.job_class, worker.queue_class, worker.death_penalty_class):
            _refuse_main(thing)
        for handler in worker._exc_handlers:  # noqa: SLF001 - the same
            _refuse_main(handler)
        return base64.b64encode(pickle.dumps(described)).decode()
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        msg = f"A spawned horse cannot be given this worker: {exc}"
        raise ValueError(msg) from exc


def rebuild_worker(description: str) -> HorseWorker:
    """Make the worker that `describe_worker` wrote down."""
    # It comes from the process that started this one, over a socket that nobody else has.
    described = pickle.loads(base64.b64decode(description))  # noqa: S301 - the same
    worker: HorseWorker = described["class"](
        connection=_rebuild_redis(described["redis"]), prepare_for_work=False, **described["arguments"]
    )
    for name, value in described["attributes"].items():
        setattr(worker, name, value)
    return worker


def _refuse_main(thing: Any) -> None:
    if getattr(thing, "__module__", None) == "__main__":
        msg = f"{thing!r} is defined in __main__, where another process cannot import it"
        raise TypeError(msg)


def _describe_redis(connection: Redis) -> dict[str, Any]:
    pool = connection.connection_pool
    described = {
        "client": type(connection),
        "pool": type(pool),
        "connection": pool.connection_class,
        "options": get_connection_kwargs(connection),
    }
    if isinstance(pool, SentinelConnectionPool):
        sentinel = pool.sentinel_manager
        described["options"].pop("connection_pool", None)
        described["sentinel"] = {
            "addresses": [_address(node) for node in sentinel.sentinels],
            "service": pool.service_name,
            "is_master": pool.is_master,
            "min_other_sentinels": sentinel.min_other_sentinels,
            "sentinel_kwargs": sentinel.sentinel_kwargs,
        }
    else:
        described["max_connections"] = pool.max_connections
    return described


def _rebuild_redis(described: Mapping[str, Any]) -> Redis:
    options = dict(described["options"])
    pool_class: type[ConnectionPool] = described["pool"]
    if "sentinel" in described:
        watch = described["sentinel"]
        manager = Sentinel(  # type: ignore[no-untyped-call]
            watch["addresses"],
            min_other_sentinels=watch["min_other_sentinels"],
            sentinel_kwargs=watch["sentinel_kwargs"],
        )
        pool: ConnectionPool = SentinelConnectionPool(  # type: ignore[no-untyped-call]
            watch["service"],
            manager,
            is_master=watch["is_master"],
            connection_class=described["connection"],
            **options,
        )
    else:
        pool = pool_class(
            connection_class=described["connection"],
            max_connections=described["max_connections"],
            **options,
        )
    client: Redis = described["client"](connection_pool=pool)
    return client


def _address(node: Redis) -> tuple[str, int]:
    options = node.connection_pool.connection_kwargs
    return str(options["host"]), int(options["port"])
