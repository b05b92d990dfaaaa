"""Rows of a sheet whose cells are known by their place: merged cells, and columns without a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

#: The cells of one row that have a value, by column from 0, and the row's number from 1.
Row: TypeAlias = tuple[int, dict[int, str]]


class Merged(NamedTuple):
    """A range of merged cells: first and last row (from 1), and its first column (from 0)."""

    first: int
    last: int
    column: int


def table_rows(rows: Sequence[Row], merged: Iterable[Merged]) -> Iterator[list[str]]:
    """Yield the rows of a sheet with a place for each column that has any value.

    The value of merged cells stands in each row with values that they cover.

    Args:
        rows: The rows, by their numbers.
        merged: The ranges of merged cells.
    """
    columns = sorted(set[int]().union(*(row for _, row in rows)))
    for row in _filled(rows, sorted(merged)):
        is_whole = len(row) == len(columns) and list(row) == columns
        yield list(row.values()) if is_whole else [row.get(at, "") for at in columns]


def _filled(rows: Sequence[Row], merged: Sequence[Merged]) -> Iterator[dict[int, str]]:
    active: dict[int, tuple[int, str]] = {}
    following = iter(merged)
    ahead = next(following, None)
    for number, row in rows:
        active = {column: kept for column, kept in active.items() if kept[0] >= number}
        filled = {column: text for column, (_, text) in active.items() if column not in row}
        while ahead and ahead.first <= number:
            if ahead.first == number and (text := row.get(ahead.column)):
                active[ahead.column] = (ahead.last, text)
            ahead = next(following, None)
        yield {**filled, **row} if filled else row
