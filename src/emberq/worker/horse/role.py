"""The preloader's role `horse`, and how a spawned horse gets the worker whose jobs it runs.

A forked horse inherits the worker object. A spawned one gets it serialized over its channel, never by
argument or environment: other users can read those, and the worker's connection has the password of Redis.
"""

from __future__ import annotations

import base64
import importlib
import io
import pickle
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from redis import Redis
from redis.connection import ConnectionPool
from redis.sentinel import SentinelConnectionPool
from rq.connections import get_connection_kwargs

from emberq.system.messages import Message
from emberq.worker.horse.process import run_horse
from emberq.worker.rq.base import HorseWorker

#: What RQ's own SpawnWorker hands to its child besides the constructor's arguments, and our limits.
_ATTRIBUTES = (
    *("death_penalty_class", "default_result_ttl", "job_monitoring_interval", "log_job_description"),
    *("log_result_lifespan", "disable_default_exception_handler", "_exc_handlers", "policy"),
)


@dataclass(frozen=True, slots=True)
class SpawnSetup:
    """The call that sets up a spawned process before it loads resources.

    Attributes:
        function: The function, as `module:name`.
        arguments: Its keyword arguments, as JSON can write them.
    """

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def run(self) -> None:
        """Make the call."""
        module, _, name = self.function.partition(":")
        getattr(importlib.import_module(module), name)(**self.arguments)


@dataclass(frozen=True, slots=True)
class HorseRole:
    """The preloader's role `horse`: forked, or spawned where a resource does not survive a fork.

    Attributes:
        make_worker: Makes the worker whose jobs the horse runs, from the fork request's spec.
        setup: Sets up a spawned horse first.
    """

    make_worker: Callable[[Message], HorseWorker]
    setup: SpawnSetup | None = None

    def __call__(self, spec: Message, channel: socket.socket) -> None:
        """Be the horse, in a forked child."""
        run_horse(self.make_worker(spec), channel)

    def spawn_spec(self, spec: Message) -> Message:
        """Return what a spawned process needs to be the same horse.

        Raises:
            ValueError: If the worker uses a class or function that another process cannot import.
        """
        made: Message = {"worker": serialize_worker(self.make_worker(spec))}
        if self.setup is not None:
            made["setup"] = asdict(self.setup)
        return made


def serialize_worker(worker: HorseWorker) -> str:
    """Return a worker and its connection as text, for `deserialize_worker` in another process.

    Raises:
        ValueError: If its class, a class it uses or a handler cannot be imported elsewhere.
    """
    handlers = worker._exc_handlers  # noqa: SLF001 - as RQ's SpawnWorker does
    serialized = {
        "class": type(worker),
        "arguments": {
            "queues": [queue.name for queue in worker.queues],
            "name": worker.name,
            "connection": worker.connection,
            "job_class": worker.plain_job_class,
            "queue_class": worker.queue_class,
            "serializer": worker._serializer_arg,  # noqa: SLF001 - the same
            "allow": worker.allow,
        },
        "attributes": {name: getattr(worker, name) for name in _ATTRIBUTES if hasattr(worker, name)},
    }
    text = io.BytesIO()
    try:
        classes = (type(worker), worker.plain_job_class, worker.queue_class, worker.death_penalty_class)
        for named in (*classes, *handlers):
            if getattr(named, "__module__", None) == "__main__":
                msg = f"{named!r} is defined in __main__, where another process cannot import it"
                raise TypeError(msg)
        _Pickler(text).dump(serialized)
    except (pickle.PicklingError, AttributeError, TypeError) as exc:
        msg = f"A spawned horse cannot be given this worker: {exc}"
        raise ValueError(msg) from exc
    return base64.b64encode(text.getvalue()).decode()


def deserialize_worker(text: str) -> HorseWorker:
    """Make the worker that `serialize_worker` wrote."""
    # The text comes from the process that started this one, over a socket that no other process has.
    serialized = pickle.loads(base64.b64decode(text))  # noqa: S301 - the same
    worker: HorseWorker = serialized["class"](prepare_for_work=False, **serialized["arguments"])
    for name, value in serialized["attributes"].items():
        setattr(worker, name, value)
    return worker


class _Pickler(pickle.Pickler):
    """Pickles a Redis client as its class, pool and options: its locks and sockets cannot be pickled."""

    def reducer_override(self, obj: object) -> Any:
        """Return how a client is made again; `Sentinel` objects are pickled with the clients they have."""
        if not isinstance(obj, Redis):
            return NotImplemented
        pool = obj.connection_pool
        options = get_connection_kwargs(obj)
        options |= {"connection_class": pool.connection_class, "max_connections": pool.max_connections}
        if isinstance(pool, SentinelConnectionPool):
            # The pool's constructor puts itself there.
            del options["connection_pool"]
            options |= {
                "service_name": pool.service_name,
                "sentinel_manager": pool.sentinel_manager,
                "is_master": pool.is_master,
            }
        return _make_client, (type(obj), type(pool), options)


def _make_client(client: type[Redis], pool: type[ConnectionPool], options: Mapping[str, Any]) -> Redis:
    return client(connection_pool=pool(**options))
