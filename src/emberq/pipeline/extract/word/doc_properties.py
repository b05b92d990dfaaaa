"""The properties of paragraphs and characters in Word's old binary format, by their places in the stream."""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

#: Bytes of a page of properties; its last byte tells the number of its entries.
_PAGE: Final = 512

#: Places in the header of the lists of pages: for characters and for paragraphs.
_CHARACTER_PAGES: Final = 0xFA
_PARAGRAPH_PAGES: Final = 0x0102

#: Bytes of an entry of a page for paragraphs; of one for characters.
_PARAGRAPH_ENTRY: Final = 13
_CHARACTER_ENTRY: Final = 1

#: The properties of paragraphs that are read.
_IN_TABLE: Final = 0x2416
_ENDS_ROW: Final = 0x2417
_INNER_CELL: Final = 0x244B
_INNER_ROW: Final = 0x244C
_TABLE_DEPTH: Final = 0x6649
_OUTLINE: Final = 0x2640
#: The properties of characters that are not shown: deleted in a tracked change, and hidden.
_UNSEEN: Final = frozenset({0x0800, 0x083C})
#: A sign of a font of symbols, for which the text has a bracket.
_SYMBOL: Final = 0x6A09

#: Bytes of a property's value by its kind; the values of kind 6 begin with their length.
_SIZES: Final = (1, 1, 2, 4, 2, 2, 0, 3)
_VARIABLE: Final = 6
_TABLE_DEFINITION: Final = 0xD608

#: The styles 1 to 9 are those of headings, in any language.
_HEADINGS: Final = range(1, 10)
_BODY_LEVEL: Final = 9


class Layout(NamedTuple):
    """The layout of a paragraph.

    Attributes:
        level: Its level as a heading; 0 if it is none.
        depth: How many tables it is in.
        ends_row: Whether its end is the end of a row.
        ends_inner_cell: Whether its end is the end of a cell of a table in a cell.
    """

    level: int
    depth: int
    ends_row: bool = False
    ends_inner_cell: bool = False


class Properties:
    """The properties of a document."""

    def __init__(self, data: bytes, tables: bytes) -> None:
        """Find them; what is damaged is left out.

        Args:
            data: The stream of the document.
            tables: The stream of its tables.
        """
        self._starts: list[int] = []
        self._layouts: list[Layout] = []
        for start, _end, entry, page in _entries(data, tables, _PARAGRAPH_PAGES, _PARAGRAPH_ENTRY):
            self._starts.append(start)
            self._layouts.append(_layout(page, entry))
        self._unseen = [
            (start, end)
            for start, end, entry, page in _entries(data, tables, _CHARACTER_PAGES, _CHARACTER_ENTRY)
            if entry and _is_unseen(page[entry + 1 : entry + 1 + page[entry]])
        ]

    def layout(self, place: int) -> Layout:
        """Return the layout of the paragraph that has a character at a place of the stream."""
        number = bisect_right(self._starts, place) - 1
        return self._layouts[number] if number >= 0 else Layout(0, 0)

    def unseen(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges between two places that are hidden or deleted."""
        for number in range(max(bisect_left(self._unseen, (start, 0)) - 1, 0), len(self._unseen)):
            first, last = self._unseen[number]
            if first >= end:
                return
            if last > start:
                yield max(first, start), min(last, end)


def _entries(data: bytes, tables: bytes, at: int, size: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield for each run of text its first place, its end, and its entry's place in a page; in order.

    Args:
        data: The stream of the document.
        tables: The stream of its tables.
        at: Where the header names the list of pages.
        size: Bytes of an entry.
    """
    place, length = struct.unpack_from("<II", data, at)
    listed = tables[place : place + length]
    count = (len(listed) - 4) // 8
    if count < 1:
        return
    done = 0
    for number in struct.unpack_from(f"<{count}I", listed, 4 * (count + 1)):
        page = data[number % (1 << 22) * _PAGE :][:_PAGE]
        if len(page) < _PAGE:
            continue
        entries = page[-1]
        if entries * (4 + size) + 4 > _PAGE - 1:
            continue
        places = struct.unpack_from(f"<{entries + 1}I", page)
        for index, (start, end) in enumerate(pairwise(places)):
            # Runs come in order; others are damaged, and could make a search wrong.
            if done <= start < end:
                done = start
                yield start, end, 2 * page[4 * (entries + 1) + size * index], page


def _layout(page: bytes, entry: int) -> Layout:
    if not entry:
        return Layout(0, 0)
    words = page[entry]
    start, size = (entry + 1, 2 * words - 1) if words else (entry + 2, 2 * page[entry + 1 : entry + 2][0])
    style = int.from_bytes(page[start : start + 2], "little")
    values = dict(_values(page[start + 2 : start + size]))
    level = style if style in _HEADINGS else 0
    if _OUTLINE in values:
        level = values[_OUTLINE] + 1 if values[_OUTLINE] < _BODY_LEVEL else 0
    depth = values.get(_TABLE_DEPTH, 0) or int(values.get(_IN_TABLE, 0) > 0)
    return Layout(
        level,
        depth,
        ends_row=bool(values.get(_ENDS_ROW) or values.get(_INNER_ROW)),
        ends_inner_cell=bool(values.get(_INNER_CELL)),
    )


def _is_unseen(properties: bytes) -> bool:
    return any((name in _UNSEEN and value == 1) or name == _SYMBOL for name, value in _values(properties))


def _values(properties: bytes) -> Iterator[tuple[int, int]]:
    """Yield the names and values of properties."""
    at = 0
    while at + 3 <= len(properties):
        name = int.from_bytes(properties[at : at + 2], "little")
        at += 2
        kind = name >> 13
        if name == _TABLE_DEFINITION:
            size = 1 + int.from_bytes(properties[at : at + 2], "little")
        elif kind == _VARIABLE:
            size = 1 + properties[at]
        else:
            size = _SIZES[kind]
        yield name, int.from_bytes(properties[at : at + min(size, 4)], "little")
        at += size
