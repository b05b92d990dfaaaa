"""Detects text that is a table: rows of cells with a delimiter."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Final

from emberq.pipeline.extract.header import find_header, is_value

#: The delimiters, those that are rarest in prose first.
_DELIMITERS: Final = "\t;|,"

#: The first line by which Excel and others name the delimiter of the file.
_NAMED: Final = re.compile(r"sep=([^\s\w])\r?\n", re.IGNORECASE)

#: Share of the rows that must have the same number of cells; exports may end with totals and remarks.
_SAME_WIDTH: Final = 0.9
#: Rows of a small table of which one may differ: a title, a total, or a row that was cut.
_MIN_ROWS_WITH_ODD: Final = 4

#: Share of commas or semicolons before a space from which on they may be punctuation.
_PUNCTUATION: Final = 0.5

#: A delimiter inside a cell that another delimiter would make.
_OTHER: Final = re.compile(r"[\t|;]|,(?! )")

#: The decimal comma of a second in a log, which separates nothing.
_FRACTION: Final = re.compile(r"(:\d\d),(\d{1,9})(?=[\s\]])")
#: The beginning of a line of a log: a date and a time, an address, or a level.
_LOGGED: Final = re.compile(
    r"[\[(<]?(?:\d{4}[-/.]\d\d[-/.]\d\d[T ]\d\d:\d\d|\d\d:\d\d:\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d{1,3}(?:\.\d{1,3}){3} \S+ \S+ \[|(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b)"
)
_MESSAGE: Final = re.compile(r"\d\d:\d\d\S*\s+[^\W\d]{3}")
_LEVEL: Final = re.compile(
    r"\s*\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL|SUCCESS)\b", re.IGNORECASE
)
#: Rows of which every cell is looked at.
_LOOKED_AT: Final = 200
#: Characters of the longest date with a time; a cell that goes on after it has a message.
_LONGEST_TIME: Final = 36


def find_delimiter(sample: str, *, min_rows: int = 2) -> str | None:
    """Return the character that separates the cells of the rows; None if the text is not a table.

    It is the one with which most rows have the same number of cells, and the fewest cells contain another
    delimiter: `1,5;2,5` is two numbers.

    Args:
        sample: The beginning of the text, in complete lines.
        min_rows: Least number of rows; fewer are not enough evidence.
    """
    if named := _NAMED.match(sample):
        return named[1]
    lines = _FRACTION.sub(r"\1.\2", sample).splitlines()
    best, best_score = None, 0.0
    for delimiter in _DELIMITERS:
        rows = _rows(lines, delimiter)
        share, width = _common_width(rows, min_rows)
        rows = rows[:_LOOKED_AT]
        if width < 2 or _is_prose(rows, delimiter, width) or _is_log(rows):  # noqa: PLR2004 - a pair
            continue
        score = share * _clean_share(rows, width)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def is_name_of_delimiter(line: str) -> bool:
    """Return whether a first line only names the delimiter, as `sep=;`."""
    return _NAMED.fullmatch(line) is not None


def _rows(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error:
        return []


def _common_width(rows: Sequence[Sequence[str]], min_rows: int) -> tuple[float, int]:
    """Return the share of the rows that have the usual number of cells, and that number; 0 if they differ."""
    if len(rows) < min_rows:
        return 0.0, 0
    # An empty last cell does not count: a comma at the end of every line is a list in a program.
    widths = [len(row) - (not row[-1].strip()) for row in rows]
    common = max(set(widths), key=widths.count)
    odd = len(widths) - widths.count(common)
    if odd > (1 - _SAME_WIDTH) * len(widths) and not (odd == 1 and len(rows) >= _MIN_ROWS_WITH_ODD):
        return 0.0, 0
    return 1 - odd / len(widths), common


def _clean_share(rows: Sequence[Sequence[str]], width: int) -> float:
    """Return the share of the cells that contain no other delimiter, except as a number's decimal comma."""
    cells = [cell for row in rows if len(row) >= width for cell in row]
    unclean = sum(_OTHER.search(cell) is not None and not is_value(cell) for cell in cells)
    return 1 - unclean / len(cells) if cells else 0.0


def _is_prose(rows: Sequence[Sequence[str]], delimiter: str, width: int) -> bool:
    """Return whether commas or semicolons are punctuation: a space follows them, and nothing is a value."""
    if delimiter not in ",;":
        return False
    after = [cell for row in rows for cell in row[1:]]
    if sum(cell.startswith(" ") for cell in after) <= _PUNCTUATION * len(after):
        return False
    values = sum(is_value(cell) for cell in after)
    return width == 2 or values * width < len(after)  # noqa: PLR2004 - a pair


def _is_log(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the rows are lines of a log: a time and a message in one cell, or a time and a level."""
    if find_header(rows) is not None:
        return False
    logged = sum(
        _LOGGED.match(row[0]) is not None
        and (_goes_on(row[0]) or _LEVEL.match(row[1] if len(row) > 1 else "") is not None)
        for row in rows
    )
    return logged >= _SAME_WIDTH * len(rows)


def _goes_on(cell: str) -> bool:
    """Return whether words follow the time in a cell."""
    return len(cell) > _LONGEST_TIME or _MESSAGE.search(cell) is not None
