from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from emberq.worker.scope import current_scope, job_scope


@given(st.lists(st.booleans(), max_size=20))
def test_everything_is_closed_in_reverse_order_whatever_fails(failing: list[bool]) -> None:
    closed: list[int] = []

    def closer(number: int) -> None:
        closed.append(number)
        if failing[number]:
            raise OSError(number)

    with job_scope() as scope:
        for number in range(len(failing)):
            scope.callback(lambda number=number: closer(number))  # type: ignore[misc]
    assert closed == list(reversed(range(len(failing))))
    assert len(scope.failures) == sum(failing)


def test_things_are_closed_when_the_job_raises() -> None:
    closed = []

    @contextlib.contextmanager
    def thing() -> Iterator[str]:
        yield "open"
        closed.append("thing")

    def failing_job() -> None:
        with job_scope() as scope:
            assert scope.enter(thing()) == "open"
            raise ValueError("job")

    with pytest.raises(ValueError, match="job"):
        failing_job()
    assert closed == ["thing"]


def test_a_socket_that_was_registered_is_closed_and_one_that_was_not_is_counted() -> None:
    with job_scope() as scope:
        kept = scope.closing(socket.socket())
    assert kept.fileno() == -1
    assert scope.leaked == {}
    with job_scope() as scope:
        left = socket.socket()
    assert scope.leaked == {"descriptors": 1}
    left.close()


def test_environment_directory_and_log_context_are_put_back(tmp_path: Path) -> None:
    before, directory = dict(os.environ), Path.cwd()
    with job_scope(job="j1"):
        os.environ["EMBERQ_TEST_LEFT"] = "behind"
        os.chdir(tmp_path)
        assert structlog.contextvars.get_contextvars()["job"] == "j1"
    assert dict(os.environ) == before
    assert Path.cwd() == directory
    assert "job" not in structlog.contextvars.get_contextvars()


def test_the_scope_of_the_running_job_can_be_asked_for() -> None:
    assert current_scope() is None
    with job_scope() as outer:
        with job_scope() as inner:
            assert current_scope() is inner
        assert current_scope() is outer
    assert current_scope() is None
