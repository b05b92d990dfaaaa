from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.eventually import TooLate, came_true, eventually


def test_the_first_accepted_result_is_returned() -> None:
    numbers = iter(range(10))
    assert eventually(lambda: next(numbers), lambda number: number > 3) == 4


def test_a_failure_tells_the_last_result_and_what_it_is_told() -> None:
    with pytest.raises(TooLate, match=r"within 0 s; last seen: \[\]\nthe log"):
        eventually(list, seconds=0, told=lambda: "the log")


def test_an_expected_exception_means_not_yet_and_any_other_is_raised() -> None:
    answers: Iterator[OSError | str] = iter([OSError("refused"), OSError("refused"), "ready"])

    def look() -> str:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert eventually(look, despite=OSError) == "ready"
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 // 0, despite=OSError)


def test_whether_something_came_true_is_told_without_an_exception() -> None:
    assert came_true(lambda: True, seconds=0)
    assert not came_true(lambda: False, seconds=0)
