"""What keeps workers from taking tickets, and what is repaired."""

from __future__ import annotations

from pathlib import Path

from redis import Redis
from rq.suspension import resume, suspend

from emberq.dispatch.tickets import queue_error, repair_queue
from emberq.testing.valkey import ValkeyServer


def test_a_queue_of_another_type_is_told_and_repaired(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        assert queue_error(redis) is None
        redis.set("rq:queue:emberq", "no list")
        assert queue_error(redis) == "wrong_type"
        repair_queue(redis)
        assert queue_error(redis) is None


def test_a_suspension_is_told(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        suspend(redis)
        assert queue_error(redis) == "suspended"
        resume(redis)
        assert queue_error(redis) is None


def test_a_redis_that_takes_no_writes_is_told(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "valkey") as server, Redis(port=server.port) as admin:
        assert queue_error(admin) is None
        admin.config_set("maxmemory", "1")
        assert queue_error(admin) == "out_of_memory"
        admin.config_set("maxmemory", "0")
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">x", "~*", "+@read", "+@connection")
        with Redis(port=server.port, username="reader", password="x") as reader:
            assert queue_error(reader) == "not_permitted"
        admin.replicaof("127.0.0.1", str(server.port))
        assert queue_error(admin) == "read_only"
    assert queue_error(Redis(port=server.port)) == "redis_unavailable"
