"""A flow of text: paragraphs, cells and rows end one after the other, as in RTF and old Word files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from emberq.pipeline.extract.builder import DocumentBuilder, squeeze


@dataclass(frozen=True, slots=True)
class _Paragraph:
    text: str
    level: int


@dataclass(frozen=True, slots=True)
class _Table:
    rows: list[list[list[_Block]]]


_Block: TypeAlias = _Paragraph | _Table


@dataclass(slots=True)
class _Level:
    """A table that is being read: its rows, the cells of the last row, and the blocks of the last cell."""

    rows: list[list[list[_Block]]] = field(default_factory=list)
    cells: list[list[_Block]] = field(default_factory=list)
    blocks: list[_Block] = field(default_factory=list)


#: The levels: the text itself, a table, and a table in a cell; deeper tables belong to the latter.
_LEVELS: Final = 3


class Flow:
    """Collects text and its structure, and writes it to a document."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._levels = [_Level() for _ in range(_LEVELS)]

    def add(self, text: str) -> None:
        """Append to the present paragraph."""
        if text:
            self._pieces.append(text)

    def end_paragraph(self, level: int = 0, *, depth: int = 0) -> None:
        """End the present paragraph.

        Args:
            level: Its level as a heading; 0 if it is none.
            depth: How many tables it is in.
        """
        depth = min(max(depth, 0), _LEVELS - 1)
        for ended in range(_LEVELS - 1, depth, -1):
            self._end_table(ended)
        text = _joined(self._pieces)
        self._pieces.clear()
        if text.strip():
            self._levels[depth].blocks.append(_Paragraph(text, level))

    def end_cell(self, level: int = 0, *, depth: int = 1) -> None:
        """End the present cell; arguments as for `end_paragraph`."""
        self.end_paragraph(level, depth=depth)
        table = self._levels[min(depth, _LEVELS - 1)]
        table.cells.append(table.blocks)
        table.blocks = []

    def end_row(self, *, depth: int = 1) -> None:
        """End the present row of a table."""
        table = self._levels[min(depth, _LEVELS - 1)]
        if table.cells:
            table.rows.append(table.cells)
            table.cells = []

    def plain(self) -> str:
        """Return all text, without its structure."""
        self.end_paragraph()
        return "\n".join(_plain(block) for block in self._levels[0].blocks)

    def first_line(self) -> str:
        """Return the first paragraph on one line; nothing if a table comes first."""
        self.end_paragraph()
        first = next(iter(self._levels[0].blocks), None)
        return squeeze(first.text) if isinstance(first, _Paragraph) else ""

    def write(self, build: DocumentBuilder) -> None:
        """Append all to a document."""
        self.end_paragraph()
        for block in self._levels[0].blocks:
            _write(block, build)

    def write_new(self, build: DocumentBuilder, seen: set[str]) -> None:
        """Append the paragraphs that are not in `seen` yet."""
        for line in self.plain().split("\n"):
            if line.strip() and line not in seen:
                seen.add(line)
                build.paragraph(line)

    def _end_table(self, depth: int) -> None:
        """Put a table into the cell or text around it."""
        table = self._levels[depth]
        if table.blocks:
            table.cells.append(table.blocks)
        if table.cells:
            table.rows.append(table.cells)
        if table.rows:
            self._levels[depth - 1].blocks.append(_Table(table.rows))
        self._levels[depth] = _Level()


def _joined(pieces: list[str]) -> str:
    """Return the text of a paragraph; halves of characters beyond 16 bits come one by one."""
    text = "".join(pieces)
    return (
        text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        if not text.isascii()
        else text
    )


def _plain(block: _Block) -> str:
    if isinstance(block, _Paragraph):
        return block.text
    return " ".join(_plain(inner) for row in block.rows for cell in row for inner in cell)


def _write(block: _Block, build: DocumentBuilder) -> None:
    if isinstance(block, _Paragraph):
        if block.level:
            build.heading(block.text, block.level)
        else:
            build.paragraph(block.text)
    elif max(map(len, block.rows)) > 1:
        build.table(
            [squeeze(" ".join(_plain(inner) for inner in cell)) for cell in row] for row in block.rows
        )
    else:
        # A table with one column is a frame around text.
        for row in block.rows:
            for inner in row[0]:
                _write(inner, build)
