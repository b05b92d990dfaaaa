"""retry_redis_operation against real Valkey servers: killed, loading, replicas, cut off, silent."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from emberq.redis_pools import close_redis_pools, get_redis_pool
from emberq.retry.classify import ErrorKind, classify_redis_error
from emberq.retry.operation import retry_redis_operation
from emberq.testing.ports import free_port
from emberq.testing.proxy import TcpProxy
from emberq.testing.valkey import ValkeyServer
from tests.harness.eventually import eventually, scaled


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path / "valkey", options={"enable-debug-command": "yes"}) as running:
        yield running


@pytest.fixture
def proxy(server: ValkeyServer) -> Iterator[TcpProxy]:
    with TcpProxy(("127.0.0.1", server.port)) as running:
        yield running


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[Redis]:
    """A client of the `client` profile, which sends nothing twice by itself."""
    yield Redis(connection_pool=get_redis_pool("client", f"redis://127.0.0.1:{proxy.port}/0"))
    close_redis_pools()


@pytest.fixture
def direct(server: ValkeyServer) -> Iterator[Redis]:
    with Redis(port=server.port, decode_responses=True) as connection:
        yield connection


def test_an_increment_whose_answer_is_lost_is_not_repeated_unasked(
    client: Redis, direct: Redis, proxy: TcpProxy
) -> None:
    client.ping()
    proxy.swallow_answers()
    attempts: list[int] = []

    @retry_redis_operation()
    def work() -> None:
        attempts.append(1)
        client.incr("n")

    with pytest.raises(redis.ConnectionError) as caught:
        work()
    assert classify_redis_error(caught.value) is ErrorKind.UNKNOWN
    assert len(attempts) == 1
    assert direct.get("n") == "1"


def test_an_idempotent_write_whose_answer_is_lost_is_repeated(
    client: Redis, direct: Redis, proxy: TcpProxy
) -> None:
    client.ping()
    proxy.swallow_answers()
    attempts: list[int] = []

    @retry_redis_operation(idempotent=True)
    def work() -> None:
        attempts.append(1)
        if len(attempts) == 2:
            proxy.heal()
        client.set("k", "v")

    work()
    assert len(attempts) == 2
    assert direct.get("k") == "v"


def test_a_silent_connection_is_given_up_after_its_time_out(client: Redis, proxy: TcpProxy) -> None:
    client.ping()
    proxy.half_open()
    started = time.monotonic()
    with pytest.raises(redis.TimeoutError) as caught:
        retry_redis_operation()(client.incr)("n")
    assert classify_redis_error(caught.value) is ErrorKind.UNKNOWN
    assert 4 < time.monotonic() - started < scaled(60)


def test_a_killed_connection_is_made_again_without_an_error(client: Redis, direct: Redis) -> None:
    client.set("k", 1)
    direct.client_kill_filter(_type="normal", skipme=True)
    # Only a connection seen to be closed has certainly asked nothing, and the close takes its way here.
    [idle] = client.connection_pool._get_free_connections()  # type: ignore[no-untyped-call]
    assert select.select([idle._sock], [], [], 10)[0]
    assert client.incr("k") == 2


def test_a_restarted_server_is_waited_for(client: Redis, server: ValkeyServer, proxy: TcpProxy) -> None:
    client.ping()
    server.kill()
    timer = threading.Timer(1.0, server.start)
    timer.start()
    attempts: list[int] = []

    @retry_redis_operation(idempotent=True, max_retries=8)
    def work() -> None:
        attempts.append(1)
        client.set("k", "v")

    work()
    timer.join()
    assert client.get("k") == "v"


def test_a_refused_connection_did_nothing() -> None:
    client = Redis(port=free_port(), retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.ConnectionError) as caught:
        client.incr("n")
    assert classify_redis_error(caught.value) is ErrorKind.NOTHING_HAPPENED


def test_a_connection_that_is_never_accepted_did_nothing() -> None:
    # An address where nobody answers would need a network; a listener that accepts nobody does not.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        client = Redis(port=port, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0))
        with pytest.raises((redis.TimeoutError, redis.ConnectionError)) as caught:
            client.ping()
        for one in waiting:
            one.close()
    assert classify_redis_error(caught.value) is ErrorKind.NOTHING_HAPPENED


def test_a_loading_server_is_waited_for(tmp_path: Path) -> None:
    options = {"appendonly": "yes", "enable-debug-command": "yes"}
    with ValkeyServer(tmp_path / "loading", options=options) as server:
        with Redis(port=server.port) as direct:
            direct.set("k", "v")
            direct.execute_command("DEBUG", "POPULATE", 20000)
            direct.execute_command("BGREWRITEAOF")
            eventually(lambda: not direct.info("persistence")["aof_rewrite_in_progress"])
        server.kill()
        # Microseconds per key: a large data set, made small.
        server.options |= {"key-load-delay": "150", "loading-process-events-interval-bytes": "1024"}
        server.start(wait=False)
        client = Redis(connection_pool=get_redis_pool("client", server.url))
        seen: list[str] = []

        @retry_redis_operation(max_retries=20)
        def work() -> object:
            try:
                return client.get("k")
            except redis.RedisError as exc:
                seen.append(type(exc).__name__)
                raise

        assert work() == "v"
        close_redis_pools()
    assert "BusyLoadingError" in seen


def test_a_replica_that_becomes_the_primary_takes_the_write(tmp_path: Path, server: ValkeyServer) -> None:
    options = {"replicaof": f"127.0.0.1 {server.port}"}
    with ValkeyServer(tmp_path / "replica", options=options) as replica:
        client = Redis(connection_pool=get_redis_pool("client", replica.url))
        attempts: list[int] = []

        @retry_redis_operation()
        def work() -> None:
            attempts.append(1)
            if len(attempts) == 2:
                client.replicaof("NO", "ONE")
            client.set("k", "v")

        work()
        close_redis_pools()
    assert len(attempts) == 2


def test_a_wrong_password_is_told_at_once(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "locked", options={"requirepass": "right"}) as locked:
        attempts: list[int] = []

        @retry_redis_operation(idempotent=True)
        def work() -> None:
            attempts.append(1)
            Redis(
                connection_pool=get_redis_pool("client", f"redis://:wrong@127.0.0.1:{locked.port}/0")
            ).ping()

        with pytest.raises(redis.AuthenticationError):
            work()
        close_redis_pools()
    assert len(attempts) == 1


def test_too_many_clients_are_waited_out(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "full") as full, Redis(port=full.port) as holder:
        holder.config_set("maxclients", 1)
        client = Redis(connection_pool=get_redis_pool("client", full.url))
        attempts: list[int] = []

        @retry_redis_operation()
        def work() -> None:
            attempts.append(1)
            if len(attempts) == 2:
                holder.config_set("maxclients", 100)
            client.set("k", "v")

        work()
        close_redis_pools()
    assert len(attempts) == 2
