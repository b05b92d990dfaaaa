"""The licences of the packages of a default install."""

from __future__ import annotations

import pytest

from requirements.licences import ELSEWHERE, is_accepted, licence_of, names


@pytest.mark.parametrize("name", names())
def test_the_licence_of_a_package_is_accepted(name: str) -> None:
    assert is_accepted(licence_of(name))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        *(("MIT", True), ("MIT OR GPL-3.0-only", True), ("MIT AND GPL-3.0-only", False), ("", False)),
        *(("GPL-3.0-only", False), ("Proprietary", False), ("(MIT AND Zlib) OR SSPL-1.0", True)),
    ],
)
def test_an_unknown_licence_is_refused(expression: str, expected: bool) -> None:
    assert is_accepted(expression) is expected


def test_nothing_is_listed_as_installed_elsewhere_that_is_not_pinned() -> None:
    assert set(ELSEWHERE) <= set(names())
