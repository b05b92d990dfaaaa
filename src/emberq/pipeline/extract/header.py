"""Recognises the header of a table: the row whose cells name the columns below them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

#: Values, as opposed to words: numbers with their signs, separators and units, dates, times, answers.
_VALUE: Final = re.compile(
    r"[-+(]?\s?(?:[€$£¥₹]|[A-Z]{3}\s)?\s?[-+]?\d{1,40}(?:[.,'’\s]\d{1,40}){0,12}(?:[eE][-+]?\d{1,4})?"  # noqa: RUF001
    r"\s?(?:[%‰°€$£¥₹]|[A-Z]{3}|[a-zµ°/²³]{1,5})?\)?"
    r"|\d{1,4}[-./]\d{1,2}[-./]\d{1,4}(?:[T\s]\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,9})?(?:Z|[-+]\d{2}:?\d{2})?)?"
    r"|\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d{1,9})?|TRUE|FALSE|true|false|True|False|-|—|–|n/a|N/A|NULL|null|NaN"  # noqa: RUF001
)
_YEAR: Final = re.compile(r"(?:19|20)\d{2}")

#: Rows that are looked at.
_ROWS: Final = 30
#: Rows above the header, such as a title, that are skipped.
_TITLES: Final = 5
#: Most characters of a column's name; most values are shorter than most sentences.
_NAME: Final = 80
#: Share of a column's cells that have to be values.
_MOST: Final = 0.8
#: Least rows of a table without values whose first row is taken for names.
_MIN_ROWS: Final = 3


def is_value(cell: str) -> bool:
    """Return whether a cell has a number, a date, a time or an answer, not words."""
    return len(cell) <= _NAME and _VALUE.fullmatch(cell.strip()) is not None


def find_header(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the index of the row that names the columns; None if no row does.

    A header has a different short name for each column, and is followed by rows of its width. Either some
    column has values below its name, or no name occurs again among the words below it.

    Args:
        rows: The first rows of the table.
    """
    rows = rows[:_ROWS]
    widths = [len(row) for row in rows]
    if len(rows) < 2 or max(widths) < 2:  # noqa: PLR2004 - names and a row, two columns
        return None
    usual = max(set(widths), key=widths.count)
    for index, row in enumerate(rows[: _TITLES + 1]):
        filled = [cell.strip() for cell in row if cell.strip()]
        if len(filled) > 1 and 2 * len(filled) > usual:
            return index if _names(row, filled, rows[index + 1 :]) else None
    return None


def _names(row: Sequence[str], filled: Sequence[str], below: Sequence[Sequence[str]]) -> bool:
    """Return whether a row names the columns of the rows below it."""
    if not below or len(set(filled)) < len(filled) or max(map(len, filled)) > _NAME:
        return False
    years = [cell for cell in filled if _YEAR.fullmatch(cell)]
    in_order = len(years) > 1 and years in (sorted(years), sorted(years, reverse=True))
    if any(is_value(cell) and not (in_order and cell in years) for cell in filled):
        return False
    columns = [[line[at].strip() for line in below if at < len(line)] for at in range(len(row))]
    if any(_has_values(column) for name, column in zip(row, columns, strict=True) if name.strip()):
        return True
    repeated = any(name.strip() in column for name, column in zip(row, columns, strict=True) if name.strip())
    return len(below) >= _MIN_ROWS - 1 and not repeated


def _has_values(column: Sequence[str]) -> bool:
    filled = [cell for cell in column if cell]
    return bool(filled) and sum(map(is_value, filled)) >= _MOST * len(filled)
