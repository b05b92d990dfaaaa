from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
import stamina
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError
from sqlalchemy.exc import OperationalError
from stamina.instrumentation import RetryDetails, get_on_retry_hooks, set_on_retry_hooks
from structlog.testing import capture_logs

from emberq.errors import CorruptFile, DatabaseUnavailable
from emberq.retry.classify import ErrorKind
from emberq.retry.operation import Retrying, retry_db_operation, retry_redis_operation


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
    retried = Retrying(judge, "", idempotent, max_retries, 30.0)(work)
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
    work, calls = failing(*[database_error("40001") for _ in range(9)])
    with pytest.raises(OperationalError):
        retry_db_operation(total_seconds=0.5)(work)()
    assert len(calls) == 1


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


def test_the_programs_own_hooks_hear_of_its_own_retries_only() -> None:
    heard: list[str] = []
    before = get_on_retry_hooks()

    def hook(details: RetryDetails) -> None:
        heard.append(details.name)

    set_on_retry_hooks([hook])
    try:
        work, _ = failing(database_error("40001"))
        with capture_logs() as logs:
            retry_db_operation("ours")(work)()
        theirs, _ = failing(KeyError())
        stamina.retry(on=KeyError)(theirs)()
    finally:
        set_on_retry_hooks(before)
    assert len(heard) == 1
    assert heard[0].endswith("work")
    assert [entry["event"] for entry in logs] == ["retry_scheduled"]
