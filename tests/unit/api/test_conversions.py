from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.api.conversions import clean_name


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("/etc/passwd", "passwd"),
        ("C:\\docs\\a.txt", "a.txt"),
        ("a\0b\n.txt", "ab.txt"),
        (f"{'x' * 300}.markdown", f"{'x' * 246}.markdown"),
        ("", ""),
    ],
)
def test_a_name_loses_its_path_and_what_cannot_be_shown(sent: str, kept: str) -> None:
    assert clean_name(sent) == kept


@given(st.text())
def test_a_cleaned_name_is_short_printable_and_has_no_path(sent: str) -> None:
    name = clean_name(sent)
    assert len(name) <= 255
    assert name.isprintable()
    assert "/" not in name
