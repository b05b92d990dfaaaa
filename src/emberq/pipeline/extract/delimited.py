"""Tells rows of values from prose."""

from __future__ import annotations

import csv
from typing import Final

__all__ = ["find_delimiter"]

#: Delimiters in the order of how little they occur in prose.
_DELIMITERS: Final = "\t;|,"

#: Part of the rows that must have the same number of cells; exports end with totals and remarks.
_SAME_WIDTH: Final = 0.9

#: Part of a comma's or semicolon's occurrences that a space follows, from which on it is punctuation.
_PUNCTUATION: Final = 0.5


def find_delimiter(sample: str, *, min_rows: int = 2) -> str | None:
    """Return the character that parts the cells of every row, None if this is no table.

    Args:
        sample: The beginning of the text; a last line that may be cut is left out by the caller.
        min_rows: Rows that must agree; fewer are no evidence.
    """
    found: list[tuple[int, str]] = []
    for delimiter in _DELIMITERS:
        width = _common_width(sample, delimiter, min_rows)
        if width > 1 and not _is_punctuation(sample, delimiter, width):
            found.append((width, delimiter))
    return max(found, default=(0, None), key=lambda pair: pair[0])[1]


def _common_width(sample: str, delimiter: str, min_rows: int) -> int:
    """Return the number of cells that nearly all rows have, 0 if they differ."""
    try:
        rows = [row for row in csv.reader(sample.splitlines(), delimiter=delimiter) if row]
    except csv.Error:
        return 0
    if len(rows) < min_rows:
        return 0
    # A comma at every line's end is a list in a program.
    widths = [len(row) - (not row[-1].strip()) for row in rows]
    common = max(set(widths), key=widths.count)
    return common if widths.count(common) >= _SAME_WIDTH * len(widths) else 0


def _is_punctuation(sample: str, delimiter: str, width: int) -> bool:
    # Three or more cells in every line do not happen in prose.
    if delimiter not in ",;" or width > 2:  # noqa: PLR2004 - a pair
        return False
    return sample.count(f"{delimiter} ") > _PUNCTUATION * sample.count(delimiter)
