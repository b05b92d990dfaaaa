"""retry_db_operation against a real PostgreSQL, with real deadlocks, kills and broken connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import OperationalError

from emberq.errors import DatabaseUnavailable
from emberq.retry.classify import ErrorKind, classify_db_error
from emberq.retry.operation import retry_db_operation
from emberq.store.database import Database
from emberq.testing.proxy import TcpProxy


@pytest.fixture
def engine(new_database: Callable[[], str]) -> Iterator[Engine]:
    engine = create_engine(new_database())
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL)"))
        connection.execute(text("INSERT INTO t VALUES (1, 0), (2, 0)"))
    yield engine
    engine.dispose()


@pytest.fixture
def proxy(engine: Engine) -> Iterator[TcpProxy]:
    host = parse_qs(urlsplit(engine.url.render_as_string()).query)["host"][0]
    with TcpProxy(f"{host}/.s.PGSQL.{engine.url.port or 5432}") as running:
        yield running


def through(proxy: TcpProxy, engine: Engine) -> str:
    url = make_url(engine.url).set(host="127.0.0.1", port=proxy.port)
    return url.difference_update_query(["host"]).render_as_string(hide_password=False)


def count(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT sum(n) FROM t")).scalar_one())


def increment(connection: Connection, row: int) -> None:
    connection.execute(text("UPDATE t SET n = n + 1 WHERE id = :row"), {"row": row})


def test_two_transactions_in_a_deadlock_both_succeed(engine: Engine) -> None:
    both_hold_one = threading.Barrier(2)
    attempts: list[int] = []

    @retry_db_operation()
    def work(first: int, second: int) -> None:
        attempts.append(first)
        with engine.begin() as connection:
            increment(connection, first)
            if len(attempts) <= 2:
                both_hold_one.wait(10)
            increment(connection, second)

    threads = [threading.Thread(target=work, args=rows) for rows in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(attempts) == 3
    assert count(engine) == 4


def test_a_serialization_failure_is_tried_again(engine: Engine) -> None:
    attempts: list[int] = []

    @retry_db_operation()
    def work() -> None:
        attempts.append(1)
        with engine.execution_options(isolation_level="REPEATABLE READ").begin() as connection:
            connection.execute(text("SELECT n FROM t")).all()
            if len(attempts) == 1:
                with engine.begin() as other:
                    increment(other, 1)
            increment(connection, 1)

    work()
    assert len(attempts) == 2
    assert count(engine) == 2


def test_a_terminated_backend_is_retried_only_where_it_may_be(engine: Engine) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        with engine.begin() as connection:
            increment(connection, 1)
            if len(attempts) == 1:
                pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
                with engine.begin() as other:
                    other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            increment(connection, 2)

    retry_db_operation(idempotent=True)(work)()
    assert len(attempts) == 2
    assert count(engine) == 2
    attempts.clear()
    with pytest.raises(OperationalError) as caught:
        retry_db_operation()(work)()
    assert isinstance(caught.value.orig, psycopg.errors.AdminShutdown)
    assert len(attempts) == 1


def test_a_read_only_transaction_leads_to_a_new_connection(engine: Engine) -> None:
    """As after a failover: the old primary takes no writes, the next connection leads to the new one."""
    database = Database(engine.url.render_as_string(hide_password=False))
    attempts: list[int] = []

    @retry_db_operation()
    def work() -> None:
        attempts.append(1)
        with database.system_transaction() as connection:
            increment(connection, 1)

    with database.system_transaction() as connection:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
    work()
    database.close()
    assert len(attempts) == 2
    assert count(engine) == 1


def test_a_commit_whose_answer_is_lost_is_never_repeated_unasked(engine: Engine, proxy: TcpProxy) -> None:
    database = Database(through(proxy, engine))
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        with database.system_transaction() as connection:
            increment(connection, 1)
            proxy.swallow_answers()

    with pytest.raises(DatabaseUnavailable) as caught:
        retry_db_operation()(work)()
    proxy.heal()
    assert classify_db_error(caught.value) is ErrorKind.UNKNOWN
    assert len(attempts) == 1
    # It had happened; a blind retry would have made it two.
    assert count(engine) == 1
    database.close()


def test_a_cut_connection_is_retried_if_idempotent(engine: Engine, proxy: TcpProxy) -> None:
    database = Database(through(proxy, engine))
    attempts: list[int] = []

    @retry_db_operation(idempotent=True)
    def work() -> None:
        attempts.append(1)
        with database.system_transaction() as connection:
            connection.execute(text("SELECT 1"))
            if len(attempts) == 1:
                proxy.cut(refuse=False)
            connection.execute(text("UPDATE t SET n = 7 WHERE id = 1"))

    work()
    database.close()
    assert len(attempts) == 2
    assert count(engine) == 7


def test_a_server_that_comes_back_in_time_is_waited_for(engine: Engine, proxy: TcpProxy) -> None:
    database = Database(through(proxy, engine))
    proxy.cut()
    timer = threading.Timer(1.0, proxy.heal)
    timer.start()
    attempts: list[int] = []

    @retry_db_operation(max_retries=8)
    def work() -> None:
        attempts.append(1)
        with database.system_transaction() as connection:
            increment(connection, 1)

    work()
    timer.join()
    database.close()
    assert len(attempts) > 1
    assert count(engine) == 1


def test_a_missing_database_is_told_at_once(engine: Engine) -> None:
    missing = create_engine(engine.url.set(database="no_such_database_here"))
    attempts: list[int] = []

    @retry_db_operation(idempotent=True)
    def work() -> None:
        attempts.append(1)
        missing.connect()

    with pytest.raises(Exception, match="does not exist"):
        work()
    assert len(attempts) == 1


def test_too_many_connections_are_waited_out(engine: Engine) -> None:
    with engine.connect() as only_one:
        name = only_one.execute(text("SELECT current_database()")).scalar_one()
        only_one.execute(text(f'ALTER DATABASE "{name}" CONNECTION LIMIT 1'))
        only_one.commit()
        another = create_engine(engine.url)
        attempts: list[int] = []

        @retry_db_operation()
        def work() -> None:
            attempts.append(1)
            if len(attempts) == 2:
                only_one.execute(text(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1'))
                only_one.commit()
            another.connect().close()

        work()
        another.dispose()
    assert len(attempts) == 2


def test_plain_psycopg_and_async_connections_are_retried_too(engine: Engine, proxy: TcpProxy) -> None:
    url = through(proxy, engine).replace("postgresql+psycopg", "postgresql")
    attempts: list[int] = []

    @retry_db_operation(idempotent=True)
    async def work() -> int:
        attempts.append(1)
        async with await psycopg.AsyncConnection.connect(url) as connection:
            if len(attempts) == 1:
                await asyncio.to_thread(proxy.cut, refuse=False)
            cursor = await connection.execute("SELECT 42")
            row = await cursor.fetchone()
            return int(row[0]) if row else 0

    assert asyncio.run(work()) == 42
    assert len(attempts) == 2
