"""What the runtime needs from the operating system."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from emberq.system.environment_variable import RewrittenVariable
from tests.harness import c_heap


@pytest.fixture
def name() -> Iterator[str]:
    made = f"EMBERQ_TEST_{uuid.uuid4().hex}"
    yield made
    os.environ.pop(made, None)


def of_a_child(name: str) -> str:
    command = [sys.executable, "-c", f"import os; print(os.environ.get({name!r}), end='')"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "values", [["first", "other"], ["short", "much longer than that", "x"], ["", "umlaut: ü"]]
)
def test_a_rewritten_variable_is_seen_by_all_readers(name: str, values: list[str]) -> None:
    variable = RewrittenVariable(name)
    for value in values:
        variable.set(value)
        assert os.environ[name] == of_a_child(name) == value
        assert os.environ.copy()[name] == value


def test_a_rewritten_variable_comes_back_whatever_was_done_to_it(name: str) -> None:
    variable = RewrittenVariable(name)
    variable.set("of the first job")
    os.environ[name] = "by somebody else"
    variable.set("of the second job")
    assert os.environ[name] == of_a_child(name) == "of the second job"
    del os.environ[name]
    assert of_a_child(name) == "None"
    variable.set("of the third job")
    assert os.environ[name] == of_a_child(name) == "of the third job"


def test_a_value_with_a_null_character_is_refused_and_the_old_one_stays(name: str) -> None:
    variable = RewrittenVariable(name)
    variable.set("good")
    with pytest.raises(ValueError, match="null character"):
        variable.set("bad\0")
    assert os.environ[name] == of_a_child(name) == "good"


@pytest.mark.skipif(not c_heap.IS_TOLD, reason="only glibc tells what is in use")
def test_ten_thousand_values_leave_nothing_behind(name: str) -> None:
    variable = RewrittenVariable(name)
    variable.set(str(uuid.uuid4()))
    before = c_heap.bytes_in_use()
    for _ in range(10_000):
        variable.set(str(uuid.uuid4()))
    # With setenv(3) it would be a million.
    assert c_heap.bytes_in_use() - before < 100_000
