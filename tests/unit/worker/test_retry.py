from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import stamina
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from sqlalchemy.exc import OperationalError

from emberq.errors import CorruptFile, DatabaseUnavailable
from emberq.worker.retry import retry_db_operation, retry_redis_operation


@pytest.fixture(autouse=True)
def without_pauses() -> Iterator[None]:
    with stamina.set_testing(True, attempts=10, cap=True):
        yield


class SqlState(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def database_error(sqlstate: str) -> OperationalError:
    return OperationalError("statement", {}, SqlState(sqlstate))


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57P01", "25006", "08006"])
def test_a_transient_database_error_is_tried_again(sqlstate: str) -> None:
    calls = []

    @retry_db_operation()
    def work() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise database_error(sqlstate)
        return "done"

    assert work() == "done"
    assert len(calls) == 3


@pytest.mark.parametrize("error", [database_error("23505"), CorruptFile(), ValueError("a bug")])
def test_what_will_not_change_is_raised_at_once(error: Exception) -> None:
    calls = []

    @retry_db_operation()
    def work() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        work()
    assert len(calls) == 1


def test_after_three_retries_the_error_is_raised() -> None:
    calls = []

    @retry_db_operation(max_retries=3)
    def work() -> None:
        calls.append(1)
        raise DatabaseUnavailable

    with pytest.raises(DatabaseUnavailable):
        work()
    assert len(calls) == 4


def test_async_functions_are_retried_as_well() -> None:
    calls = []

    @retry_redis_operation()
    async def work() -> str:
        calls.append(1)
        if len(calls) < 2:
            raise RedisConnectionError
        return "done"

    assert asyncio.run(work()) == "done"


def test_a_wrong_redis_command_is_not_tried_again() -> None:
    calls = []

    @retry_redis_operation()
    def work() -> None:
        calls.append(1)
        raise ResponseError

    with pytest.raises(ResponseError):
        work()
    assert len(calls) == 1
