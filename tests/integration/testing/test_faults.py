"""Fault points break exactly the operation that was asked for, as the library would, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from emberq.testing.faults import Fault, FaultPoints, Variant


@pytest.fixture
def points(tmp_path: Path) -> Iterator[FaultPoints]:
    (tmp_path / "files").mkdir()
    made = FaultPoints(["job"], trace=tmp_path / "trace", directory=tmp_path / "files")
    made.install()
    made.become("job")
    yield made
    made.uninstall()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0)) as client:
        client.ping()
        yield client


@pytest.fixture
def database(database_url: str) -> Iterator[psycopg.Connection]:
    plain = database_url.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute("CREATE TABLE marks (mark text)")
    with psycopg.connect(plain) as connection:
        yield connection


def exit_code_of(act: Callable[[], object], points: FaultPoints) -> int:
    """Run something in a process of its own, which counts as this one does."""
    pid = os.fork()
    if pid == 0:
        points.become("job")
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_operations_are_counted_in_order_and_named(
    points: FaultPoints, redis: Redis, database: psycopg.Connection, tmp_path: Path
) -> None:
    points.arm(None)
    with redis.pipeline() as pipeline:
        pipeline.set("a", 1)
        pipeline.incr("a")
        pipeline.execute()
    redis.get("a")
    database.execute("SELECT 1")
    database.commit()
    with (tmp_path / "files" / "b").open("wb") as file:
        file.write(b"bytes")
    (tmp_path / "elsewhere").write_bytes(b"not counted")
    assert [(one.number, one.kind, one.name) for one in points.crossings()] == [
        (1, "redis", "MULTI SET INCRBY EXEC"),
        (2, "redis", "GET"),
        (3, "sql", "SELECT 1"),
        (4, "sql", "COMMIT"),
        (5, "disk", "open"),
        (6, "disk", "write"),
    ]
    assert points.counts() == {"job": 6}
    assert not points.has_fired


@pytest.mark.parametrize(("variant", "value"), [(Variant.RAISE_BEFORE, b"1"), (Variant.RAISE_AFTER, b"2")])
def test_a_redis_command_fails_once_before_or_after_it_was_done(
    points: FaultPoints, redis: Redis, variant: Variant, value: bytes
) -> None:
    redis.set("n", 1)
    points.arm(Fault("job", 2, variant))
    redis.get("n")
    with pytest.raises(RedisConnectionError):
        redis.incr("n")
    assert points.has_fired
    assert redis.get("n") == value, "the connection is made anew, and the fault does not come back"


@pytest.mark.parametrize(("variant", "rows"), [(Variant.RAISE_BEFORE, 0), (Variant.RAISE_AFTER, 1)])
def test_a_commit_fails_before_or_after_it_was_done_and_breaks_the_connection(
    points: FaultPoints, database: psycopg.Connection, database_url: str, variant: Variant, rows: int
) -> None:
    points.arm(Fault("job", 2, variant))
    database.execute("INSERT INTO marks VALUES ('one')")
    with pytest.raises(psycopg.OperationalError):
        database.commit()
    assert database.closed
    with psycopg.connect(database_url.replace("+psycopg", "")) as again:
        assert again.execute("SELECT count(*) FROM marks").fetchone() == (rows,)


def test_a_full_disk_keeps_the_write_from_happening(points: FaultPoints, tmp_path: Path) -> None:
    points.arm(Fault("job", 2, Variant.RAISE_BEFORE))
    path = tmp_path / "files" / "a"
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.write(b"bytes")
    assert path.read_bytes() == b""


@pytest.mark.parametrize(("variant", "value"), [(Variant.EXIT_BEFORE, b"1"), (Variant.EXIT_AFTER, b"2")])
def test_the_process_is_killed_before_or_after_the_operation(
    points: FaultPoints, redis_url: str, redis: Redis, variant: Variant, value: bytes
) -> None:
    redis.set("n", 1)

    def act() -> None:
        with Redis.from_url(redis_url) as own:
            own.ping()
            points.arm(Fault("job", 1, variant))
            own.incr("n")

    assert exit_code_of(act, points) == -signal.SIGKILL
    assert points.has_fired, "the counters are shared"
    assert redis.get("n") == value


def test_a_forked_process_counts_only_once_it_says_what_it_is(points: FaultPoints, redis_url: str) -> None:
    points.arm(None)
    pid = os.fork()
    if pid == 0:
        Redis.from_url(redis_url).ping()
        os._exit(0)
    os.waitpid(pid, 0)
    assert points.counts() == {"job": 0}


def test_without_the_points_the_libraries_are_as_they_were(redis: Redis, tmp_path: Path) -> None:
    before = (Redis.execute_command, psycopg.Cursor.execute, psycopg.connect, os.fsync)
    points = FaultPoints(["job"], directory=tmp_path)
    points.install()
    points.uninstall()
    assert (Redis.execute_command, psycopg.Cursor.execute, psycopg.connect, os.fsync) == before
