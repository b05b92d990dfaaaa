"""Lines in reading order, column by column, by their places on the page."""

from __future__ import annotations

import re
import statistics
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from emberq.pipeline.extract.layout.placed import Line

#: Lines that a column has at least.
_COLUMN_LINES: Final = 3

#: Least gap between columns, as a multiple of the letters' height.
_COLUMN_GAP: Final = 0.7

#: In columns of running text a line has at least so many words, or as many characters as these have where no
#: spaces are written, and fills this share of its column; cells of tables are shorter.
_COLUMN_WORDS: Final = 3
_WORD_CHARACTERS: Final = 4
_COLUMN_FILL: Final = 0.5
_UNSPACED: Final = re.compile("[\u3040-\u9fff\uac00-\ud7af]")

#: Lines across the columns, as a share of those in the smaller column.
_CROSSING: Final = 0.3

#: Columns inside columns.
_MAX_DEPTH: Final = 4


def arrange(parts: list[Line], depth: int = 0) -> tuple[list[Line], bool]:
    """Return parts of lines as whole lines in reading order.

    Args:
        parts: The parts, in any order.
        depth: Columns around these.

    Returns:
        The lines, column by column, and whether there are columns.
    """
    gutter = _find_gutter(parts) if parts and depth < _MAX_DEPTH else None
    if gutter is None:
        return list(_rows(parts)), False
    ordered: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []

    def end() -> None:
        for column in (left, right):
            if column:
                ordered.extend(arrange(column, depth + 1)[0])
            column.clear()

    crossing: list[Line] = []
    for part in sorted(parts, key=lambda part: -part.middle):
        if part.right <= gutter:
            column = left
        elif part.left >= gutter:
            column = right
        else:
            end()
            crossing.append(part)
            continue
        ordered.extend(_rows(crossing))
        crossing.clear()
        column.append(part)
    end()
    ordered.extend(_rows(crossing))
    return ordered, True


def _find_gutter(parts: Sequence[Line]) -> float | None:
    """Return where a gap divides two columns of running text; None if there is no such place."""
    lefts = sorted(part.left for part in parts)
    rights = sorted(part.right for part in parts)
    best: tuple[float, float] | None = None
    size = statistics.median(part.size for part in parts)
    for done, x in enumerate(rights, 1):
        begun = bisect_right(lefts, x)
        before, after, crossing = done, len(parts) - begun, begun - done
        if begun == len(parts) or min(before, after) < _COLUMN_LINES or lefts[begun] - x < _COLUMN_GAP * size:
            continue
        if crossing > _CROSSING * min(before, after):
            continue
        score = min(before, after) - crossing / _CROSSING
        if best is None or score > best[0]:
            best = score, (x + lefts[begun]) / 2
    if best is None:
        return None
    left = [part for part in parts if part.right <= best[1]]
    right = [part for part in parts if part.left >= best[1]]
    # Columns are beside each other, not one below the other.
    top = min(max(part.top for part in left), max(part.top for part in right))
    bottom = max(min(part.bottom for part in left), min(part.bottom for part in right))
    are_columns = bottom < top and is_running_text(left) and is_running_text(right)
    return best[1] if are_columns else None


def is_running_text(parts: Sequence[Line]) -> bool:
    """Return whether lines are those of a column of text, not cells of a table."""
    if len(parts) < _COLUMN_LINES:
        return False
    width = max(part.right for part in parts) - min(part.left for part in parts)
    words = statistics.median(_words(part.text) for part in parts)
    fill = statistics.median(part.right - part.left for part in parts)
    return words >= _COLUMN_WORDS and fill >= _COLUMN_FILL * width


def _words(text: str) -> int:
    unspaced = 0 if text.isascii() else len(_UNSPACED.findall(text))
    return text.count(" ") + 1 + unspaced // _WORD_CHARACTERS


def _rows(parts: Iterable[Line]) -> Iterable[Line]:
    """Yield whole lines, downwards; the parts of one are beside each other."""
    row: list[Line] = []
    for part in sorted(parts, key=lambda part: -part.middle):
        if row and row[0].middle - part.middle > 0.5 * min(row[0].size, part.size):
            yield _joined(row)
            row = []
        row.append(part)
    if row:
        yield _joined(row)


def _joined(row: list[Line]) -> Line:
    if len(row) == 1:
        return row[0]
    row.sort(key=lambda part: part.left)
    return replace(
        row[0],
        text=" ".join(part.text for part in row),
        bottom=min(part.bottom for part in row),
        right=max(part.right for part in row),
        top=max(part.top for part in row),
        size=max(part.size for part in row),
    )
