"""Tables of data in HTML and XML: their cells, each in its column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emberq.pipeline.extract.builder import squeeze
from emberq.pipeline.extract.office.ooxml import Element, local_name

#: Elements that show that a table is the layout of a page, not data.
_FRAME: Final = frozenset(("table", "form", "h1", "h2", "h3", "h4", "h5", "h6"))

#: The rows and cells of HTML and of DocBook, whose cells say `morerows` instead of `rowspan`.
_ROWS: Final = frozenset(("tr", "row"))
_CELLS: Final = frozenset(("td", "th", "entry"))

#: Most characters of a cell in a table of data; a table with a longer cell is layout.
LONGEST_CELL: Final = 1000

#: Most columns that a cell is merged over.
_MOST_COLUMNS: Final = 100

#: The rows of `rowspan="0"`: as many as there are.
_TO_THE_END: Final = 65_534

#: How many cells may be repeated or left empty for merged cells, for each cell of the table and besides. A
#: small hostile table could merge its cells over millions.
_REPEATED_PER_CELL: Final = 20
_REPEATED: Final = 1000


def data_rows(table: Element, read_cell: Callable[[Element], str]) -> list[list[str]]:
    """Return the cells of a table of data; an empty list if the table is layout.

    A cell that is merged over rows is repeated in each of them, so that each row is complete. A cell that is
    merged over columns is followed by empty ones, so that the next cell is in its own column.

    Args:
        table: The element.
        read_cell: Returns the text of a cell on one line.
    """
    rows: list[Element] = []
    for element in table.iterdescendants():
        name = local_name(element).lower()
        # At the first one: tables may be nested, and each would be searched to its end.
        if name in _FRAME:
            return []
        if name in _ROWS:
            rows.append(element)
    grid = _Grid()
    for row in rows:
        for cell in row:
            if local_name(cell).lower() in _CELLS:
                text = squeeze(cell.text or "") if not len(cell) else read_cell(cell)
                if len(text) > LONGEST_CELL:
                    return []
                grid.add(text, _span(cell.get("colspan"), 1), _rows(cell))
        grid.end_row()
    return grid.rows if grid.width > 1 else []


class _Grid:
    """Puts cells into their columns."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.width = 0
        self._row: list[str] = []
        #: For a column, the text that a cell above continues with, and in how many more rows.
        self._open: dict[int, tuple[str, int]] = {}
        self._begun: dict[int, tuple[str, int]] = {}
        self._credit = _REPEATED

    def add(self, text: str, columns: int, rows: int) -> None:
        self._continue()
        self._credit += _REPEATED_PER_CELL
        for _ in range(min(columns, _MOST_COLUMNS)):
            if rows > 1:
                self._begun[len(self._row)] = (text, rows - 1)
            self._row.append(text)
            text = ""
            self._credit -= 1
            if self._credit <= 0:
                break

    def end_row(self) -> None:
        self._continue()
        if self._open:
            # Cells above may continue to the right of a gap.
            last = max(self._open)
            while self._open and len(self._row) <= last and self._credit > 0:
                self._credit -= 1
                self._row.append("")
                self._continue()
        self.width = max(self.width, len(self._row))
        self.rows.append(self._row)
        self._row = []
        self._open, self._begun = self._begun, {}

    def _continue(self) -> None:
        """Append the cells above that continue in the next columns."""
        while self._open and self._credit > 0 and (above := self._open.pop(len(self._row), None)):
            text, rows = above
            self._credit -= 1
            if rows > 1:
                self._begun[len(self._row)] = (text, rows - 1)
            self._row.append(text)


def _rows(cell: Element) -> int:
    """Return over how many rows a cell is merged."""
    more = cell.get("morerows")
    return _span(cell.get("rowspan"), _TO_THE_END) if more is None else 1 + _span(more, 0)


def _span(text: str | None, zero: int) -> int:
    digits = (text or "").strip()[:5]
    return (int(digits) or zero) if digits.isascii() and digits.isdigit() else 1
