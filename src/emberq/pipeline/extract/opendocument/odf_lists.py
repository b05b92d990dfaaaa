"""The numbers of lists and headings in OpenDocument files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name
from emberq.pipeline.extract.web.html_lists import BULLET, written

#: Most levels of a list.
_LEVELS: Final = 10


@dataclass(frozen=True, slots=True)
class _Level:
    """How the items of one level are marked.

    Attributes:
        kind: The kind of number: 1, a, A, i, I; empty if there is none.
        prefix: What comes before the number.
        suffix: What comes behind it.
        start: The first number.
        shown: How many levels the number shows.
        is_bullet: Whether items have a sign instead of a number.
    """

    kind: str = ""
    prefix: str = ""
    suffix: str = ""
    start: int = 1
    shown: int = 1
    is_bullet: bool = False


class ListStyles:
    """The styles of lists by name, and that of headings."""

    def __init__(self, *parts: Element | None) -> None:
        """Read the styles of some parts; of two with one name, the first one counts."""
        self.by_name: dict[str, dict[int, _Level]] = {}
        self.headings: dict[int, _Level] = {}
        for part in parts:
            if part is None:
                continue
            for style in part.iter("{*}list-style"):
                self.by_name.setdefault(attribute(style, "name"), _levels(style))
            for style in part.iter("{*}outline-style"):
                self.headings = self.headings or _levels(style)


def _levels(style: Element) -> dict[int, _Level]:
    levels: dict[int, _Level] = {}
    for child in style:
        level = _Level(
            kind=attribute(child, "num-format"),
            prefix=attribute(child, "num-prefix"),
            suffix=attribute(child, "num-suffix"),
            start=_number(attribute(child, "start-value"), 1),
            shown=_number(attribute(child, "display-levels"), 1),
            is_bullet=local_name(child) in {"list-level-style-bullet", "list-level-style-image"},
        )
        levels[_number(attribute(child, "level"), 1)] = level
    return levels


class Numbering:
    """Counts the items of lists, and headings."""

    def __init__(self, styles: ListStyles) -> None:
        self._styles = styles
        self._counts: dict[str, list[int]] = {}
        self._headings = [0] * (_LEVELS + 1)
        #: The names of the styles of the lists around the present item.
        self._open: list[str] = []

    @contextmanager
    def in_list(self, items: Element) -> Iterator[None]:
        """Begin a list, and end it."""
        style = attribute(items, "style-name") or (self._open[-1] if self._open else "")
        level = min(len(self._open) + 1, _LEVELS)
        counts = self._counts.setdefault(style, [0] * (_LEVELS + 1))
        continues = attribute(items, "continue-numbering") == "true" or attribute(items, "continue-list")
        if not continues or level > 1:
            counts[level:] = [0] * (_LEVELS + 1 - level)
        self._open.append(style)
        try:
            yield
        finally:
            self._open.pop()

    def mark(self, item: Element) -> str:
        """Return the mark of the next item of the present list, with a space after it."""
        style = self._open[-1]
        levels = self._styles.by_name.get(style, {})
        level = min(len(self._open), _LEVELS)
        counts = self._counts[style]
        _count(counts, levels, level, attribute(item, "start-value"))
        how = levels.get(level)
        if how is None or how.is_bullet:
            return BULLET
        return _mark(counts, levels, level)

    def heading_mark(self, heading: Element, level: int) -> str:
        """Return the number of a heading, with a space after it; nothing if headings have none."""
        level = min(max(level, 1), _LEVELS)
        if attribute(heading, "is-list-header") == "true" or level not in self._styles.headings:
            return ""
        if attribute(heading, "restart-numbering") == "true":
            self._headings[level] = 0
        _count(self._headings, self._styles.headings, level, attribute(heading, "start-value"))
        return _mark(self._headings, self._styles.headings, level)


def _count(counts: list[int], levels: dict[int, _Level], level: int, start: str) -> None:
    first = levels[level].start if level in levels else 1
    if start:
        counts[level] = _number(start, 1)
    else:
        counts[level] = counts[level] + 1 if counts[level] else first
    counts[level + 1 :] = [0] * (len(counts) - level - 1)


def _mark(counts: list[int], levels: dict[int, _Level], level: int) -> str:
    how = levels[level]
    if not how.kind:
        return ""
    numbers = []
    for above in range(max(level - how.shown + 1, 1), level + 1):
        kind = levels[above].kind if above in levels else "1"
        if kind:
            numbers.append(written(counts[above] or 1, kind))
    return f"{how.prefix}{'.'.join(numbers)}{how.suffix} "


def _number(value: str, default: int) -> int:
    return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else default  # noqa: PLR2004
