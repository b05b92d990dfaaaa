"""The values of a form, put into the lines beside which they are shown."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from emberq.pipeline.extract.layout.placed import Line
from emberq.pipeline.extract.pdf.annotations import CHECK_MARKS
from emberq.pipeline.extract.pdf.lines import PageText, tidy

#: A field that is more than so many lines high holds text of its own, not a value in a line.
_TALL: Final = 3.0

#: Most lines above or below a field that are compared with its place.
_NEAR: Final = 20


def with_fields(page: PageText, lines: list[Line], fields: Sequence[tuple[Line, str]]) -> list[Line]:
    """Return the lines of a page with the values of its form.

    Args:
        page: The page's text.
        lines: Its lines, in reading order.
        fields: The values at their places, each with its label, which is used where no line is beside it.
    """
    size = statistics.median(line.size for line in lines) if lines else 1.0
    downwards = sorted(range(len(lines)), key=lambda index: -lines[index].middle)
    heights = [-lines[index].middle for index in downwards]
    inside: defaultdict[int, list[Line]] = defaultdict(list)
    below: defaultdict[int, list[Line]] = defaultdict(list)
    for value, label in sorted(fields, key=lambda field: (-field[0].top, field[0].left)):
        at = bisect_left(heights, -value.middle)
        near = downwards[max(0, at - _NEAR) : at + _NEAR]
        beside = _beside(value, [index for index in near if lines[index].turned == value.turned], lines, size)
        if beside is not None:
            inside[beside].append(value)
            continue
        above = [index for index in near if lines[index].middle >= value.middle]
        text = value.text if not label or label in value.text else _labelled(value.text, label)
        after = min(above, key=lambda index: _distance(lines[index], value)) if above else -1
        below[after].append(replace(value, text=text, size=size))
    filled = list(below[-1])
    for index, line in enumerate(lines):
        filled.append(_insert(page, line, inside[index]) if index in inside else line)
        filled += below.get(index, ())
    return filled


def _labelled(value: str, label: str) -> str:
    return f"{value} {label}" if value in CHECK_MARKS else f"{label}: {value}"


def _distance(line: Line, value: Line) -> float:
    """Return how far a value is below a line and beside it."""
    return line.middle - value.middle + max(line.left - value.right, value.left - line.right, 0.0)


def _beside(value: Line, near: Sequence[int], lines: Sequence[Line], size: float) -> int | None:
    """Return the line into which a value belongs: the nearest in its row; None if there is none."""
    if value.top - value.bottom > _TALL * size:
        return None
    row = [index for index in near if value.bottom <= lines[index].middle <= value.top]
    if not row:
        return None

    def distance(index: int) -> float:
        line = lines[index]
        before, after = value.left - line.right, line.left - value.right
        # What a box means stands behind it, what a value means before it.
        if value.text in CHECK_MARKS:
            return max(before * 4, after, 0.0)
        return max(before, after * 4, 0.0)

    return min(row, key=distance)


def _insert(page: PageText, line: Line, values: Sequence[Line]) -> Line:
    """Return a line with values at their places in it."""
    pieces: list[str] = []
    done = word = line.start
    waiting = sorted(values, key=lambda value: value.left)
    while waiting and waiting[0].left <= line.left:
        pieces.append(waiting.pop(0).text)
    if line.start < 0:
        pieces.append(line.text)
    else:
        for index in range(line.start, line.end + 1):
            if not waiting:
                break
            if page.text[index].isspace():
                word = index + 1
            elif page.box(index, line.turned)[0] >= waiting[0].left:
                # Not inside a word, over which a box may lie.
                pieces += [tidy(page.text[done:word]).strip(), waiting.pop(0).text]
                done = word
        pieces.append(tidy(page.text[done : line.end + 1]).strip())
    pieces += [value.text for value in waiting]
    return replace(line, text=" ".join(filter(None, pieces)), start=-1)
