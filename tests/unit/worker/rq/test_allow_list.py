"""Which names an allow-list allows, and what a pickled job may contain."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import subprocess
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from emberq.worker.rq.allow_list import AllowedPickle, AllowList, shown

ALLOW = AllowList.of(["pkg.tasks.*", "pkg.one.send"])


@pytest.mark.parametrize("name", ["pkg.tasks.send", "pkg.tasks._hidden", "pkg.one.send"])
def test_names_on_the_list_are_allowed(name: str) -> None:
    assert ALLOW.allows(name)


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "pkg.tasks", "pkg.tasks.", "pkg.tasks.os.system", "pkg.tasks.deep.send", "tasks.send"),
        *("pkg.tasks.*", "pkg.tasks.send ", "pkg.tasks.send\n", "xpkg.tasks.send", "pkg.one.send.__call__"),
        *(
            "",
            ".",
            "*",
            "eval",
            "__import__",
            "rq.job.Job.fetch",
            "pkg.tasks." + "a" * 400,
            "pkg\x00.tasks.f",
        ),
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert not ALLOW.allows(name)


@pytest.mark.parametrize(
    "pattern", ["*", "**", "os", "pkg.*.send", "pkg..f", "pkg.f()", ".f", "pkg.t*", "a.b-c.*"]
)
def test_a_pattern_that_says_too_much_or_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="EMBERQ_ALLOW"):
        AllowList.parse(pattern)


def test_an_empty_variable_is_no_list() -> None:
    assert AllowList.parse(" , ") is None
    allow = AllowList.parse("pkg.a.f, pkg.b.*")
    assert allow is not None
    assert allow.allows("pkg.b.g")


def test_a_pattern_allows_what_a_module_defines_and_not_what_it_imports() -> None:
    allow = AllowList.of(["subprocess.*", "os.path.*"])
    assert allow.allows_found("subprocess.run", subprocess.run)
    assert not allow.allows_found("os.path.system", os.system)
    assert AllowList.of(["os.path.join"]).allows_found("os.path.join", os.path.join)


PLAIN: list[Any] = [
    (1, 2.5, "x", b"y", None, True, [1], {"a": {1, 2}}, frozenset({3}), 1j, range(3), slice(1, 2)),
    (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.date(2026, 1, 2), dt.timedelta(3)),
    (Decimal("1.5"), UUID(int=5), OrderedDict(a=1), Path("x")),
]


@pytest.mark.parametrize("value", PLAIN, ids=str)
@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read(value: Any, protocol: int) -> None:
    assert str(AllowedPickle(ALLOW).loads(pickle.dumps(value, protocol))) == str(value)


class Bomb:
    """What calls a function when it is read."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "call",
    [
        (os.system, "touch {mark}"),
        (eval, "open('{mark}', 'w')"),
        (getattr, os, "system"),
        (subprocess.run, "x"),
    ],
    ids=lambda call: call[0].__name__,
)
def test_a_pickle_that_calls_is_refused_unread(call: Any, protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    words = [word.format(mark=mark) if isinstance(word, str) else word for word in call[1:]]
    if call[0] is getattr:
        words[0] = "os"
    data = pickle.dumps(("f", None, (Bomb(call[0], *words),), {}), protocol)
    with pytest.raises(pickle.UnpicklingError, match="not allowed"):
        AllowedPickle(ALLOW).loads(data)
    assert not mark.exists()


def test_a_name_from_redis_is_shown_on_one_line_of_bounded_length() -> None:
    assert shown("os.system\n\x1b[31m\u202e") == "os.system??[31m?"
    assert len(shown("x" * 10_000)) == 300
    assert shown(b"\xff\n") == "b'\\xff\\n'"
