from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
from redis import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import Sentinel, SentinelConnectionPool
from rq import Queue
from rq.job import Job
from rq.timeouts import TimerDeathPenalty

from emberq import WarmWorker
from emberq.redis_pools import get_redis_pool
from emberq.worker.horse.role import deserialize_worker, serialize_worker
from emberq.worker.job.policy import HorsePolicy


class OwnJob(Job):
    """A job class of the user's own."""


class OwnQueue(Queue):
    """A queue class of the user's own."""


class OwnWorker(WarmWorker):
    """A worker class of the user's own."""

    death_penalty_class = TimerDeathPenalty


def handle(*_args: Any) -> bool:
    return True


def rebuilt(connection: Redis, **options: Any) -> Any:
    worker = OwnWorker(["high", "low"], name="w1", connection=connection, prepare_for_work=False, **options)
    return deserialize_worker(serialize_worker(worker))


def test_the_worker_is_the_same_in_what_jobs_see_of_it() -> None:
    worker = OwnWorker(
        ["high", "low"],
        name="w1",
        connection=Redis(),
        job_class=OwnJob,
        queue_class=OwnQueue,
        serializer="rq.serializers.JSONSerializer",
        exception_handlers=[handle],
        default_result_ttl=7,
        disable_default_exception_handler=True,
        prepare_for_work=False,
    )
    worker.policy = HorsePolicy(job_memory_limit=5)
    twin = deserialize_worker(serialize_worker(worker))
    assert type(twin) is OwnWorker
    assert (twin.name, [type(queue) for queue in twin.queues]) == ("w1", [OwnQueue, OwnQueue])
    assert [queue.name for queue in twin.queues] == ["high", "low"]
    assert (twin.job_class, twin.death_penalty_class) == (OwnJob, TimerDeathPenalty)
    assert twin.serializer is worker.serializer
    assert twin._exc_handlers == [handle]
    assert (twin.default_result_ttl, twin.disable_default_exception_handler) == (7, True)
    assert twin.policy == worker.policy


def test_the_connection_goes_to_the_same_server_in_the_same_way() -> None:
    over_tls = rebuilt(Redis.from_url("rediss://me:secret@example.test:7000/3?ssl_cert_reqs=none"))
    pool = over_tls.connection.connection_pool
    assert pool.connection_class is SSLConnection
    options = pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("example.test", 7000, 3)
    assert (options["username"], options["password"]) == ("me", "secret")
    assert options["ssl_cert_reqs"] == "none"

    local = rebuilt(Redis(unix_socket_path="/run/valkey.sock")).connection.connection_pool
    assert local.connection_class is UnixDomainSocketConnection
    assert local.connection_kwargs["path"] == "/run/valkey.sock"

    bounded = BlockingConnectionPool.from_url("redis://localhost", max_connections=3)
    pool = rebuilt(Redis(connection_pool=bounded)).connection.connection_pool
    assert (type(pool), pool.max_connections) == (BlockingConnectionPool, 3)

    ours = get_redis_pool("worker", "redis://localhost:1")
    retry = rebuilt(Redis(connection_pool=ours)).connection.connection_pool.connection_kwargs["retry"]
    assert retry._retries == ours.connection_kwargs["retry"]._retries


def test_a_sentinel_finds_the_same_master() -> None:
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [("one.test", 26379), ("two.test", 26380)], sentinel_kwargs={"password": "s"}
    )
    master = sentinel.master_for("prime", password="secret", db=2)  # type: ignore[no-untyped-call]
    pool = rebuilt(master).connection.connection_pool
    assert type(pool) is SentinelConnectionPool
    assert (pool.service_name, pool.is_master) == ("prime", True)
    nodes = [node.connection_pool.connection_kwargs for node in pool.sentinel_manager.sentinels]
    assert [(node["host"], node["port"], node["password"]) for node in nodes] == [
        ("one.test", 26379, "s"),
        ("two.test", 26380, "s"),
    ]
    assert (pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == ("secret", 2)


def test_what_cannot_be_imported_elsewhere_is_refused_by_name() -> None:
    worker = WarmWorker(["q"], connection=Redis(), prepare_for_work=False)
    worker.push_exc_handler(lambda *_args: True)  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="lambda"):
        serialize_worker(worker)


def test_a_serialized_worker_is_its_class_its_arguments_and_its_limits() -> None:
    worker = WarmWorker(["q"], connection=Redis(), prepare_for_work=False)
    serialized = pickle.loads(base64.b64decode(serialize_worker(worker)))
    assert set(serialized) == {"class", "arguments", "attributes"}
