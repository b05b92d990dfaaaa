"""The lines of a PDF's page, with their places as they are seen when the page is held upright."""

from __future__ import annotations

import ctypes
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from pypdfium2 import raw

from emberq.pipeline.extract.layout.placed import Box, Line

#: What fonts of symbols have at the places for private use, as word processors write bullets.
SYMBOLS: Final = {"\uf0b7": "•", "\uf0a7": "▪", "\uf0d8": "➢", "\uf0fc": "✓", "\uf0a8": "□"}
_SYMBOLS: Final = str.maketrans(SYMBOLS)

#: A letter may lie on its side if the box of its font is more than this many times as wide as high.
_LYING: Final = 1.25

_LINE: Final = re.compile(r"[^\r\n]+")
_ASTRAL: Final = re.compile("[\U00010000-\U0010ffff]")

#: Letters that are read from the right to the left, such as Hebrew and Arabic ones.
RIGHT_TO_LEFT: Final = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


class PageText:
    """The text of one page, with the box of each character.

    Attributes:
        text: The characters, with pdfium's line ends and marks of hyphens.
        turned: Quarter turns, anticlockwise, by which the page's content is turned to be shown upright.
    """

    def __init__(self, content: Any, *, turned: int = 0) -> None:
        """Take a text page of pdfium.

        Args:
            content: A `pypdfium2.PdfTextPage`, open as long as this object is used.
            turned: Quarter turns of the page.
        """
        self.turned = turned
        self.text: str = content.get_text_range()
        self.content = content.raw
        self._rectangle = raw.FS_RECTF()
        self._reference = ctypes.byref(self._rectangle)
        self._edges = [ctypes.c_double() for _ in range(4)]
        self._edge_references = [ctypes.byref(edge) for edge in self._edges]
        #: Positions of the characters that are two units of UTF-16.
        self._astral = [match.start() for match in _ASTRAL.finditer(self.text)]
        self._is_plain = not self._astral and raw.FPDFText_CountChars(self.content) == len(self.text)

    def box(self, index: int, turned: int) -> Box:
        """Return the box of the font around a character, as it is seen after quarter turns."""
        raw.FPDFText_GetLooseCharBox(self.content, self.character(index), self._reference)
        box = self._rectangle
        return turn((box.left, box.bottom, box.right, box.top), turned)

    def piece(self, index: int) -> Box:
        """Return the box of one of the pieces that pdfium has counted, not turned."""
        raw.FPDFText_GetRect(self.content, index, *self._edge_references)
        left, top, right, bottom = self._edges
        return left.value, bottom.value, right.value, top.value

    def character(self, index: int) -> int:
        """Return pdfium's number of a character of the text."""
        if self._is_plain:
            return index
        units = index + bisect_left(self._astral, index)
        return int(raw.FPDFText_GetCharIndexFromTextIndex(self.content, units))

    def is_unmapped(self, index: int) -> bool:
        """Return whether the font of a character does not tell what it shows."""
        return bool(raw.FPDFText_HasUnicodeMapError(self.content, self.character(index)) == 1)

    def direction(self, index: int) -> int:
        """Return the quarter turns, anticlockwise, of a character."""
        angle = raw.FPDFText_GetCharAngle(self.content, self.character(index))
        return int(-round(angle / (math.pi / 2)) % 4)

    def lines(self, *, start: int = 0) -> Iterator[Line]:
        """Yield the lines that have a visible character, in the order of the content.

        Args:
            start: Index of the first character.
        """
        for match in _LINE.finditer(self.text, start):
            found = match[0]
            visible = found.strip()
            if not visible:
                continue
            first = match.start() + len(found) - len(found.lstrip())
            last = first + len(visible) - 1
            yield self._line(found, first, last)

    def _line(self, text: str, first: int, last: int) -> Line:
        turned = self.turned
        begin, end = self.box(first, turned), self.box(last, turned)
        if _may_be_turned(begin, end, text):
            turned = next((found for found in map(self.direction, (first, last)) if found != turned), turned)
            begin, end = self.box(first, turned), self.box(last, turned)
        size = max(begin[3] - begin[1], end[3] - end[1])
        left, right = min(begin[0], end[0]), max(begin[2], end[2])
        return Line(tidy(text), left, end[1], right, begin[3], size, turned, first, last)


def _may_be_turned(begin: Box, end: Box, text: str) -> bool:
    """Return whether a line runs up or down the page or to the left, or its last letter lies on its side.

    So it is in vertical writing and in Hebrew too.
    """
    along, across = abs(end[1] - begin[1]), end[0] - begin[0]
    lies = end[2] - end[0] > _LYING * (end[3] - end[1])
    return lies or along > abs(across) or (across < 0 and not RIGHT_TO_LEFT.search(text))


def turn(box: Box, quarters: int) -> Box:
    """Return a box as it is seen when the content, turned anticlockwise by quarters, is held upright."""
    left, bottom, right, top = box
    match quarters:
        case 1:
            return bottom, -right, top, -left
        case 2:
            return -right, -top, -left, -bottom
        case 3:
            return -top, left, -bottom, right
        case _:
            return box


def tidy(text: str) -> str:
    """Return a text with bullets as themselves, not as the codes of a font of symbols."""
    return text if text.isascii() else text.translate(_SYMBOLS)
