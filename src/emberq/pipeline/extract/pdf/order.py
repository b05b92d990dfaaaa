"""The order in which the lines of a PDF's page are read, where the order of its content lies.

The content's order is right on nearly all pages, and better than any guess from positions. So it is only
given up where it cannot be right: lines that jump up and down the page, a right column before the left one,
columns that are drawn row by row, and text that is turned.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Final

from pypdfium2 import raw

from emberq.pipeline.extract.layout.columns import arrange, is_running_text
from emberq.pipeline.extract.layout.placed import Line
from emberq.pipeline.extract.pdf.lines import RIGHT_TO_LEFT, PageText, tidy, turn

#: The order is a lie if more than so many lines, and this share of all, are above the line before.
_JUMPS: Final = 4
_JUMP_SHARE: Final = 0.3

#: A column of at least so many lines is a column; fewer may be a heading, a footer or a note beside the text.
_COLUMN_LINES: Final = 4

#: Lines whose gaps are looked at to find columns that are drawn row by row, and how many have to agree.
_SAMPLE: Final = 6
_AGREE: Final = 3
#: Most pieces of one of these lines.
_MAX_PIECES: Final = 40

#: Gaps, as a multiple of the letters' height: between words, and between parts of a row.
_WORD_GAP: Final = 0.18
_PART_GAP: Final = 0.9

#: Least width of a column, in heights of letters.
_COLUMN_WIDTH: Final = 7.0


def in_reading_order(page: PageText, lines: list[Line]) -> list[Line]:
    """Return the lines of a page in the order in which they are read."""
    is_turned = any(line.turned != page.turned for line in lines)
    if not is_turned and _is_trusted(page, lines):
        return lines
    if RIGHT_TO_LEFT.search(page.text):
        return lines
    groups = _by_direction(_parts(page, is_turned=is_turned), page.turned)
    is_mixed = is_turned or _are_many(_jumps(lines), lines)
    ordered = []
    for group in groups:
        found, has_columns = arrange(group)
        if group[0].turned == page.turned and not has_columns and not is_mixed:
            # A table, or what looks like columns and is none: the content's order is better than a guess.
            return lines
        ordered += found
    return ordered


def _is_trusted(page: PageText, lines: list[Line]) -> bool:
    """Return whether the order of the content can be right, by a few of its positions."""
    if len(lines) < _AGREE:
        return True
    jumps = _jumps(lines)
    if jumps:
        # Vertical writing runs in columns of its own.
        if any(line.top - line.bottom > 3 * line.size for line in lines):
            return True
        if _are_many(jumps, lines) or _goes_back(lines, jumps):
            return False
    return not _has_gutter(page, lines)


def _jumps(lines: Sequence[Line]) -> list[int]:
    """Return the indexes of the lines that are above the line before."""
    return [index for index, (above, line) in enumerate(pairwise(lines), 1) if line.bottom > above.top]


def _are_many(jumps: Sequence[int], lines: Sequence[Line]) -> bool:
    return len(jumps) > max(_JUMPS, _JUMP_SHARE * len(lines))


def _goes_back(lines: Sequence[Line], jumps: Sequence[int]) -> bool:
    """Return whether a column follows that is above and to the left of the column before."""
    runs = [lines[begin:end] for begin, end in pairwise([0, *jumps, len(lines)])]
    return any(
        min(len(first), len(second)) >= _COLUMN_LINES
        and max(line.right for line in second) <= min(line.left for line in first)
        and is_running_text(first)
        and is_running_text(second)
        for first, second in pairwise(runs)
    )


def _has_gutter(page: PageText, lines: Sequence[Line]) -> bool:
    """Return whether a few lines have a wide gap at the same place, between pieces drawn apart."""
    step = max(1, len(lines) // _SAMPLE)
    gaps: list[tuple[float, float]] = []
    without = 0
    for line in lines[::step][:_SAMPLE]:
        found = _gaps(page, line)
        gaps += found
        without += not found
        if without > _SAMPLE - _AGREE:
            return False
    if len(gaps) < _AGREE:
        return False
    opened = sorted(gap[0] for gap in gaps)
    closed = sorted(gap[1] for gap in gaps)
    # Some place at which as many gaps are open as must agree: the place where one of them begins.
    return any(bisect_right(opened, x) - bisect_right(closed, x) >= _AGREE for x in opened)


def _gaps(page: PageText, line: Line) -> list[tuple[float, float]]:
    """Return the gaps in a line, from where to where; none if its parts are short, as cells of tables."""
    first, last = page.character(line.start), page.character(line.end)
    count = raw.FPDFText_CountRects(page.content, first, last - first + 1)
    if not 1 < count <= _MAX_PIECES:
        return []
    edges = sorted(turn(page.piece(index), page.turned) for index in range(count))
    gaps = [(a[2], b[0]) for a, b in pairwise(edges) if b[0] - a[2] > _PART_GAP * line.size]
    bounds = [edges[0][0], *(x for gap in gaps for x in gap), edges[-1][2]]
    shortest = min(right - left for left, right in zip(bounds[::2], bounds[1::2], strict=True))
    return gaps if shortest >= _COLUMN_WIDTH * line.size else []


def _parts(page: PageText, *, is_turned: bool) -> list[Line]:
    """Return the parts of the page's lines: characters beside each other, without wide gaps.

    Args:
        page: The page's text.
        is_turned: Whether some of it is turned.
    """
    parts: list[Line] = []
    text: list[str] = []
    edges: list[float] = []
    part: Line | None = None

    def end() -> None:
        if part is not None and text:
            words = tidy("".join(text))
            if words.strip():
                left, bottom, right, top = edges
                parts.append(
                    replace(part, text=words, left=left, bottom=bottom, right=right, top=top, end=index - 1)
                )
        text.clear()

    for index, character in enumerate(page.text):
        if character.isspace():
            continue
        turned = page.direction(index) if is_turned else page.turned
        box = page.box(index, turned)
        size = box[3] - box[1]
        if part is not None and turned == part.turned:
            gap = box[0] - edges[2]
            is_beside = -part.size < gap <= _PART_GAP * max(size, part.size)
            middle = (box[1] + box[3]) / 2
            if is_beside and edges[1] < middle < edges[3]:
                if gap > _WORD_GAP * part.size or (gap > 0 and page.text[index - 1].isspace()):
                    text.append(" ")
                text.append(character)
                edges[2] = max(edges[2], box[2])
                if abs(size - part.size) < 0.1 * part.size:
                    edges[1], edges[3] = min(edges[1], box[1]), max(edges[3], box[3])
                continue
        end()
        part = Line("", *box, size, turned, index)
        text.append(character)
        edges = list(box)
    index = len(page.text)
    end()
    return parts


def _by_direction(parts: Iterable[Line], first: int) -> list[list[Line]]:
    """Return the parts of each direction, the page's own before the others."""
    ordered = sorted(parts, key=lambda part: (part.turned != first, part.turned))
    return [list(group) for _, group in groupby(ordered, key=lambda part: part.turned)]
