"""Every promise of the delivery contract is held by a test that exists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.harness.paths import ROOT

PAGE = ROOT / "docs" / "explanation" / "delivery.md"
#: A promise is one line with its number, and below it one with the tests that hold it.
PROMISE = re.compile(r"^(\d+\.\d+) (.+)$")
HELD_BY = re.compile(r"^: (.+)$")
TEST = re.compile(r"`([^`]+)`")


def promises(page: str) -> list[tuple[str, str, list[str]]]:
    """Return number, sentence and tests of each promise."""
    lines = page.splitlines()
    found = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if promise := PROMISE.match(line):
            held = HELD_BY.match(following)
            found.append((promise[1], promise[2], TEST.findall(held[1]) if held else []))
    return found


def exists(test: str) -> bool:
    """Tell whether there is a test of this id."""
    name, _, function = test.partition("::")
    path = ROOT / name
    if not (path.is_file() and path.name.startswith("test_") and function.startswith("test_")):
        return False
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function
        for node in ast.parse(path.read_text(encoding="utf-8")).body
    )


PROMISES = promises(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("number", "sentence", "tests"), PROMISES, ids=[number for number, *_ in PROMISES])
def test_a_promise_is_held_by_tests(number: str, sentence: str, tests: list[str]) -> None:
    assert tests, f"{number} is held by no test"
    assert [test for test in tests if not exists(test)] == []
    assert sentence.endswith(".")
    assert ". " not in sentence, f"{number} is more than one sentence"


def test_nothing_below_a_numbered_heading_is_left_without_a_number() -> None:
    body = PAGE.read_text(encoding="utf-8").partition("\n## 1. ")[2]
    loose = [
        line
        for line in body.splitlines()[1:]
        if line and not (PROMISE.match(line) or HELD_BY.match(line) or line.startswith("## "))
    ]
    assert loose == []
    numbers = [number for number, *_ in PROMISES]
    assert len(set(numbers)) == len(numbers) > 40


def test_a_promise_without_a_test_is_found_out() -> None:
    page = "1.1 Kept.\n: `tests/unit/test_errors.py::test_no_such_test`\n1.2 Forgotten.\n\n"
    assert promises(page) == [
        ("1.1", "Kept.", ["tests/unit/test_errors.py::test_no_such_test"]),
        ("1.2", "Forgotten.", []),
    ]
    assert not exists("tests/unit/test_errors.py::test_no_such_test")
    assert not exists("tests/no_such_file.py::test_it")
    assert exists("tests/unit/docs/test_delivery.py::test_a_promise_without_a_test_is_found_out")
