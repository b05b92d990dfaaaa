"""Detects text that is a table: rows of cells with a delimiter."""

from __future__ import annotations

import csv
from typing import Final

#: The delimiters, those that are rarest in prose first.
_DELIMITERS: Final = "\t;|,"

#: Share of the rows that must have the same number of cells; exports may end with totals and remarks.
_SAME_WIDTH: Final = 0.9

#: Share of commas or semicolons before a space from which on they are punctuation.
_PUNCTUATION: Final = 0.5


def find_delimiter(sample: str, *, min_rows: int = 2) -> str | None:
    """Return the character that separates the cells of the rows; None if the text is not a table.

    Args:
        sample: The beginning of the text, in complete lines.
        min_rows: Least number of rows; fewer are not enough evidence.
    """
    found: list[tuple[int, str]] = []
    for delimiter in _DELIMITERS:
        width = _common_width(sample, delimiter, min_rows)
        if width > 1 and not _is_punctuation(sample, delimiter, width):
            found.append((width, delimiter))
    return max(found, default=(0, None), key=lambda pair: pair[0])[1]


def _common_width(sample: str, delimiter: str, min_rows: int) -> int:
    """Return the number of cells that nearly all rows have; 0 if the rows differ."""
    try:
        rows = [row for row in csv.reader(sample.splitlines(), delimiter=delimiter) if row]
    except csv.Error:
        return 0
    if len(rows) < min_rows:
        return 0
    # An empty last cell does not count: a comma at the end of every line is a list in a program.
    widths = [len(row) - (not row[-1].strip()) for row in rows]
    common = max(set(widths), key=widths.count)
    return common if widths.count(common) >= _SAME_WIDTH * len(widths) else 0


def _is_punctuation(sample: str, delimiter: str, width: int) -> bool:
    # Prose does not have three or more cells in every line.
    if delimiter not in ",;" or width > 2:  # noqa: PLR2004 - a pair
        return False
    return sample.count(f"{delimiter} ") > _PUNCTUATION * sample.count(delimiter)
