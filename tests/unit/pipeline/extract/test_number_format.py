"""Numbers are written as a spreadsheet shows them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emberq.pipeline.extract.office.number_format import built_in_format, make_formatter

ACCOUNTING = r'_-* #,##0.00\ [$€-407]_-;-* #,##0.00\ [$€-407]_-;_-* "-"??\ [$€-407]_-;_-@_-'


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("General", 0.1 + 0.2, "0.3"),
        ("General", 1.234567890123457e19, "12345678901234600000"),
        ("General", 1e-7, "1E-07"),
        ("0", 1.234567890123457e19, "12345678901234600000"),
        ("0.0%", 0.255, "25.5%"),
        ("0%", 0.5, "50%"),
        ("00000", 1099, "01099"),
        ("0.00", 1.005, "1.01"),
        ("0.00", -2, "-2.00"),
        ('#,##0.00 "EUR"', 1234.5, "1,234.50 EUR"),
        ("€ #,##0", 1500, "€ 1,500"),
        ("0.###", 1.5, "1.5"),
        ("#,##0", 0, "0"),
        ('0,,"M"', 12_345_678, "12M"),
        ("#,##0;[Red](#,##0)", -1234, "(1,234)"),
        (ACCOUNTING, 1234.567, "1,234.57 €"),
        (ACCOUNTING, 0, "- €"),
        ('[>=1000]0.0,"k";0', 1500, "1.5k"),
        ('[>=1000]0.0,"k";0', 15, "15"),
        ("000-00-0000", 123456789, "123-45-6789"),
        ("(###) ###-####", 5551234567, "(555) 123-4567"),
        ("0.00E+00", 12345.678, "1.23E+04"),
        ("##0.0E+0", 12345.678, "12.3E+3"),
        ("# ?/?", 0.3, "2/7"),
        ("# ??/??", 2.75, "2 3/4"),
        ("?/8", 0.5, "4/8"),
        ('General" kg"', 5.5, "5.5 kg"),
        ('"yes";"no"', 1, "yes"),
        ("hh:mm", 0.41666666, "10:00"),
        ("hh:mm:ss", 0.416666666664, "10:00:00"),
        ("h:mm AM/PM", 0.75, "6:00 PM"),
        ("[h]:mm:ss", 1.5, "36:00:00"),
        ("[hh]:mm:ss", 10.63206018518519, "255:10:10"),
        ("[m]", 0.5, "720"),
        ("mm:ss.0", 0.000123, "00:10.6"),
        ("yyyy-mm-dd", 46096, "2026-03-15"),
        ("dd.mm.yyyy hh:mm", 46096.5, "2026-03-15 12:00"),
        ('yyyy"年"m"月"d"日"', 46096, "2026-03-15"),
        ("mmm yyyy", 46096, "Mar 2026"),
        ("dddd", 46096, "Sunday"),
        ("yyyy-mm-dd", 59, "1900-02-28"),
        ("yyyy-mm-dd", 61, "1900-03-01"),
        ("yyyy-mm-dd", 3e6, "3000000"),
    ],
)
def test_a_number_is_written_as_it_is_shown(code: str, value: float, shown: str) -> None:
    assert make_formatter(code)(value) == shown


def test_days_may_be_counted_from_1904() -> None:
    assert make_formatter("yyyy-mm-dd", date1904=True)(44634) == "2026-03-15"


@pytest.mark.parametrize(
    ("number", "value", "shown"),
    [
        (0, 2.5, "2.5"),
        (9, 0.25, "25%"),
        (14, 46096, "2026-03-15"),
        (31, 46096, "2026-03-15"),
        (46, 1.5, "36:00:00"),
        (99, 2.5, "2.5"),
    ],
)
def test_formats_are_known_by_their_numbers(number: int, value: float, shown: str) -> None:
    assert make_formatter(built_in_format(number))(value) == shown


@settings(max_examples=200)
@given(
    st.text(st.sampled_from('0#?.,%/@E+-yMmdhs[]";\\_*$€ GeneralAPM:'), max_size=30),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_any_format_writes_any_number(code: str, value: float) -> None:
    assert make_formatter(code)(value)
