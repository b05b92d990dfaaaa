from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from emberq.errors import CorruptFile, DatabaseUnavailable
from emberq.retry import operation
from emberq.retry.backoff import Backoff
from emberq.retry.classify import ErrorKind
from emberq.retry.operation import Retrying

#: Pauses too short to be noticed.
SHORT = Backoff(first_seconds=0.0001, longest_seconds=0.0001)


def retry_db_operation(name: str = "", *, backoff: Backoff = SHORT, **options: Any) -> Retrying:
    return replace(operation.retry_db_operation(name, **options), backoff=backoff)


def retry_redis_operation(name: str = "", **options: Any) -> Retrying:
    return replace(operation.retry_redis_operation(name, **options), backoff=SHORT)


class SqlState(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


def database_error(sqlstate: str) -> OperationalError:
    return OperationalError("statement", {}, SqlState(sqlstate))


def failing(*errors: Exception) -> tuple[Callable[[], str], list[int]]:
    """Return a function that raises these errors, one a call, and then succeeds; and its calls."""
    calls: list[int] = []

    def work() -> str:
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return work, calls


class Judged(Exception):
    def __init__(self, outcome: ErrorKind) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def judge(error: BaseException) -> ErrorKind:
    assert isinstance(error, Judged)
    return error.outcome


@given(
    outcomes=st.lists(st.sampled_from(ErrorKind), max_size=6),
    idempotent=st.booleans(),
    max_retries=st.integers(0, 4),
)
def test_attempts_go_on_exactly_as_long_as_the_errors_allow(
    outcomes: list[ErrorKind], idempotent: bool, max_retries: int
) -> None:
    """The model: skip errors that may be retried, at most `max_retries`; the next one, if any, is raised."""
    allowed = {ErrorKind.NOTHING_HAPPENED, ErrorKind.UNKNOWN} if idempotent else {ErrorKind.NOTHING_HAPPENED}
    expected = next((i for i, outcome in enumerate(outcomes) if outcome not in allowed), len(outcomes))
    expected = min(expected, max_retries)
    raised = outcomes[expected] if expected < len(outcomes) else None

    work, calls = failing(*map(Judged, outcomes))
    retried = Retrying(judge, "", idempotent, max_retries, 30.0, SHORT)(work)
    if raised is None:
        assert retried() == "done"
    else:
        with pytest.raises(Judged) as caught:
            retried()
        assert caught.value.outcome is raised
    assert len(calls) == expected + 1


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "25006", "53300", "57P03"])
def test_what_certainly_did_nothing_is_tried_again(sqlstate: str) -> None:
    work, calls = failing(database_error(sqlstate), database_error(sqlstate))
    assert retry_db_operation()(work)() == "done"
    assert len(calls) == 3


@pytest.mark.parametrize("sqlstate", ["08006", "57P01"])
def test_what_may_have_happened_is_tried_again_only_if_idempotent(sqlstate: str) -> None:
    work, calls = failing(database_error(sqlstate))
    with pytest.raises(OperationalError):
        retry_db_operation()(work)()
    assert len(calls) == 1
    work, calls = failing(database_error(sqlstate))
    assert retry_db_operation(idempotent=True)(work)() == "done"
    assert len(calls) == 2


@pytest.mark.parametrize("error", [database_error("23505"), CorruptFile(), ValueError("a bug")])
def test_what_will_not_change_is_raised_at_once(error: Exception) -> None:
    work, calls = failing(error)
    with pytest.raises(type(error)):
        retry_db_operation(idempotent=True)(work)()
    assert len(calls) == 1


def test_after_three_retries_the_error_is_raised() -> None:
    work, calls = failing(*[DatabaseUnavailable() for _ in range(9)])
    with pytest.raises(DatabaseUnavailable):
        retry_db_operation(idempotent=True)(work)()
    assert len(calls) == 4


def test_no_attempt_begins_after_the_total_time() -> None:
    steep = Backoff(first_seconds=0.001, longest_seconds=60.0, factor=1e6)
    work, calls = failing(*[database_error("40001") for _ in range(9)])
    with pytest.raises(OperationalError):
        retry_db_operation(total_seconds=30.0, backoff=steep)(work)()
    assert len(calls) == 2


def test_without_a_bound_it_is_tried_until_the_total_time_is_over() -> None:
    work, calls = failing(*[database_error("40001") for _ in range(50)])
    assert retry_db_operation(max_retries=None)(work)() == "done"
    assert len(calls) == 51
    work, _ = failing(*[database_error("40001")] * 9999)
    with pytest.raises(OperationalError):
        retry_db_operation(max_retries=None, total_seconds=0.05)(work)()


def test_async_functions_are_retried_as_well() -> None:
    calls = []

    @retry_redis_operation(idempotent=True)
    async def work() -> str:
        calls.append(1)
        if len(calls) < 2:
            raise RedisConnectionError
        return "done"

    assert asyncio.run(work()) == "done"
    assert len(calls) == 2


def test_a_block_is_retried() -> None:
    work, calls = failing(ReadOnlyError())
    nums = []
    for attempt in retry_redis_operation("a block"):
        with attempt:
            nums.append(attempt.num)
            assert work() == "done"
    assert nums == [1, 2]
    assert len(calls) == 2


def test_an_async_block_is_retried_and_its_last_error_raised() -> None:
    work, calls = failing(*[ReadOnlyError() for _ in range(9)])

    async def main() -> None:
        async for attempt in retry_redis_operation("a block", max_retries=2):
            with attempt:
                work()

    with pytest.raises(ReadOnlyError):
        asyncio.run(main())
    assert len(calls) == 3


def test_a_wrong_redis_command_is_not_tried_again() -> None:
    work, calls = failing(ResponseError())
    with pytest.raises(ResponseError):
        retry_redis_operation(idempotent=True)(work)()
    assert len(calls) == 1


def test_retries_are_logged_by_the_operations_name_and_without_what_the_error_says() -> None:
    work, _ = failing(database_error("40001"))
    with capture_logs() as logs:
        retry_db_operation("rename")(work)()
    [scheduled] = [entry for entry in logs if entry["event"] == "retry_scheduled"]
    assert (scheduled["operation"], scheduled["error"], scheduled["retry"]) == (
        "rename",
        "OperationalError",
        1,
    )
    assert "statement" not in str(logs)


def test_the_pauses_grow_and_are_told() -> None:
    growing = Backoff(first_seconds=0.02, longest_seconds=1.0, factor=3.0)
    work, _ = failing(*[database_error("40001") for _ in range(3)])
    began_at = time.monotonic()
    with capture_logs() as logs:
        retry_db_operation(backoff=growing)(work)()
    assert time.monotonic() - began_at >= 0.02 + 0.06 + 0.18
    assert [entry["wait_seconds"] for entry in logs] == [0.02, 0.06, 0.18]


def test_the_last_error_is_raised_from_the_block_itself() -> None:
    """So a traceback shows the line that failed, and a `finally` around the block runs once."""
    work, _ = failing(*[ReadOnlyError() for _ in range(9)])
    ended = []

    def run_block() -> None:
        for attempt in retry_redis_operation("a block", max_retries=1):
            try:
                with attempt:
                    work()
            finally:
                ended.append(attempt.num)

    with pytest.raises(ReadOnlyError) as caught:
        run_block()
    assert ended == [1, 2]
    assert caught.traceback[-1].name == "work"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_what_ends_the_program_is_no_failure_of_the_operation(error: BaseException) -> None:
    calls = []

    @retry_db_operation(idempotent=True)
    def work() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)), capture_logs() as logs:
        work()
    assert len(calls) == 1
    assert logs == []


COUNT = """
import sys
from emberq.retry import operation
from emberq.retry.backoff import Backoff
from emberq.telemetry import metrics
from emberq.telemetry.exposition import render_host

class SqlState(Exception):
    sqlstate = sys.argv[1]

failures = [SqlState()] * int(sys.argv[2])

@operation.retry_db_operation("o")
def work():
    if failures:
        raise failures.pop()

metrics.enable()
operation._BACKOFF = Backoff(first_seconds=0.0001, longest_seconds=0.0001)
try:
    work()
except SqlState:
    pass
sys.stdout.write(render_host().decode())
"""


@pytest.mark.parametrize(
    ("sqlstate", "failures", "outcomes"),
    [
        ("40001", 0, {}),
        ("40001", 2, {"retried": 2, "recovered": 1}),
        ("40001", 9, {"retried": 3, "exhausted": 1}),
        ("08006", 1, {"not_idempotent": 1}),
        ("23505", 1, {}),
    ],
)
def test_how_an_operation_ends_is_counted(sqlstate: str, failures: int, outcomes: dict[str, int]) -> None:
    command = [sys.executable, "-c", COUNT, sqlstate, str(failures)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    counted = re.findall(r'^emberq_retries_total{operation="o",outcome="(\w+)"} (\d+)', shown, re.MULTILINE)
    assert {outcome: int(number) for outcome, number in counted} == outcomes
