"""Writes documents in Word's old binary format for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.harness.compound import make_compound

__all__ = ["Mark", "make_doc"]

_PAGE: Final = 512
#: Paragraphs of a page of properties.
_PER_PAGE: Final = 8
_START: Final = 2048


class Mark(NamedTuple):
    """A paragraph: its text with the character that ends it, the number of its style, and its properties."""

    text: str
    style: int = 0
    properties: bytes = b""


def make_doc(
    *parts: Sequence[Mark],
    hidden: tuple[int, int] | None = None,
    is_symbol: bool = False,
    one_byte: bool = False,
    encrypted: bool = False,
) -> bytes:
    """Write a document.

    Args:
        parts: The paragraphs of the body, notes, headers, comments, endnotes, boxes, boxes of headers.
        hidden: The first hidden character and the one behind the last.
        is_symbol: Whether these characters are signs of a font of symbols instead.
        one_byte: Whether the text has one byte per character, in windows-1252.
        encrypted: Whether the header says so.
    """
    width = 1 if one_byte else 2
    marks = [mark for part in parts for mark in part]
    text = "".join(mark.text for mark in marks)
    data = bytearray(_START)
    data += text.encode("cp1252" if one_byte else "utf-16-le")
    data += bytes(-len(data) % _PAGE)
    tables = bytearray(b"\0" * 16)
    _properties(data, tables, marks, width)
    _hidden(data, tables, hidden, 0x6A09 if is_symbol else 0x083C, width, len(text))
    # Pieces of a hundred characters; one set of properties before them, which is skipped.
    firsts = [*range(0, len(text), 100), len(text)]
    pieces = struct.pack(f"<{len(firsts)}I", *firsts)
    for first in firsts[:-1]:
        place = _START + first * width
        pieces += struct.pack("<HIH", 0, place * 2 | 0x40000000 if one_byte else place, 0)
    struct.pack_into("<II", data, 0x01A2, len(tables), len(pieces) + 9)
    tables += b"\x01\x01\x00\x00" + b"\x02" + struct.pack("<I", len(pieces)) + pieces
    struct.pack_into("<HH", data, 0, 0xA5EC, 0xC1)
    struct.pack_into("<H", data, 0x0A, 0x0200 | (0x0100 if encrypted else 0))
    lengths = [sum(len(mark.text) for mark in part) for part in parts] + [0] * (7 - len(parts))
    struct.pack_into("<3I4x4I", data, 76, *lengths)
    return make_compound({"WordDocument": bytes(data), "1Table": bytes(tables)})


def _properties(data: bytearray, tables: bytearray, marks: Sequence[Mark], width: int) -> None:
    place = _START
    numbers, bounds = [], [place]
    for at in range(0, len(marks), _PER_PAGE):
        group = marks[at : at + _PER_PAGE]
        places = [place]
        page = bytearray(_PAGE)
        free = _PAGE - 2
        for index, mark in enumerate(group):
            place += len(mark.text) * width
            places.append(place)
            body = struct.pack("<H", mark.style) + mark.properties
            body = bytes((0, -(-len(body) // 2))) + body
            free -= len(body) + len(body) % 2
            page[free : free + len(body)] = body
            page[4 * (len(group) + 1) + 13 * index] = free // 2
        struct.pack_into(f"<{len(places)}I", page, 0, *places)
        page[-1] = len(group)
        numbers.append(len(data) // _PAGE)
        bounds.append(place)
        data += page
    struct.pack_into("<II", data, 0x0102, len(tables), 8 * len(numbers) + 4)
    tables += struct.pack(f"<{len(bounds)}I{len(numbers)}I", *bounds, *numbers)


def _hidden(
    data: bytearray, tables: bytearray, hidden: tuple[int, int] | None, name: int, width: int, end: int
) -> None:
    if hidden is None:
        return
    page = bytearray(_PAGE)
    places = [_START + character * width for character in (0, *hidden, end)]
    struct.pack_into("<4I", page, 0, *places)
    page[16:19] = bytes((0, 200, 0))
    page[400:407] = struct.pack("<BHI", 6, name, 1)
    page[-1] = 3
    struct.pack_into("<II", data, 0xFA, len(tables), 12)
    tables += struct.pack("<3I", places[0], places[-1], len(data) // _PAGE)
    data += page
