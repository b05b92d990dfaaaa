from __future__ import annotations

import json

import pytest

from emberq.cli.output import Columns, describe_warnings, print_listing, print_result
from emberq.errors.file_warnings import FileWarning, WarningCode

ITEMS = [
    {"name": "handbook", "size": 2048, "scopes": ["read", "write"], "created_at": None, "pages": 3},
    {"name": "notes", "size": 5, "scopes": [], "created_at": "2020-01-01T00:00:00+00:00", "pages": None},
]
COLUMNS: Columns = {
    "Name": "name",
    "Size": "size",
    "Scopes": "scopes",
    "Created": "created_at",
    "Pages": lambda item: f"{item['pages'] or 0} pages",
}


def test_a_listing_is_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(ITEMS, COLUMNS, empty="Nothing.", as_json=False)
    titles, first, second = capsys.readouterr().out.splitlines()
    assert titles.split() == list(COLUMNS)
    assert first.split() == ["handbook", "2.0", "KiB", "read,", "write", "3", "pages"]
    assert second.startswith("notes     5 B")
    assert "min ago" in second


def test_a_listing_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing(ITEMS, COLUMNS, empty="Nothing.", as_json=True)
    assert json.loads(capsys.readouterr().out) == ITEMS


def test_an_empty_listing_is_a_sentence_or_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_listing([], COLUMNS, empty="Nothing.", as_json=False)
    print_listing([], COLUMNS, empty="Nothing.", as_json=True)
    assert capsys.readouterr().out == "Nothing.\n[]\n"


def test_a_result_is_a_sentence_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"deleted": "a"}, "Deleted a.", as_json=False)
    assert capsys.readouterr().out == "Deleted a.\n"
    print_result({"deleted": "a"}, "Deleted a.", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"deleted": "a"}


def test_warnings_are_one_line() -> None:
    warnings = [
        FileWarning(WarningCode.IMAGES_SKIPPED, 3).as_dict(),
        FileWarning(WarningCode.ATTACHMENT_UNREADABLE, names=("a.msg",)).as_dict(),
    ]
    assert describe_warnings(warnings) == "images_skipped 3 times, attachment_unreadable (a.msg)"
    assert describe_warnings([]) == ""
