"""The cells of an XLSX sheet: its rows, block by block, as shown.

A sheet's rows are a large part of plain XML. Blocks of rows that have the form which programs write are taken
apart by one expression; any other block is parsed. Only cells that exist cost anything, wherever they are.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import Final, TypeAlias
from xml.sax.saxutils import quoteattr

from lxml import etree

from emberq.pipeline.extract.office.number_format import built_in_format, general, make_formatter
from emberq.pipeline.extract.office.ooxml import Element, attribute, local_name, parse_xml
from emberq.pipeline.extract.sheets.sheet_rows import Row

#: What is known of a piece of a row: the letters of the column, style, type, value, inline text, row number.
_Piece: TypeAlias = tuple[str, str, str, str, str, str, str]

#: The type of a text that the parser has decoded.
_PARSED: Final = "parsed"

#: The types of numbers; without a type a cell has one.
_NUMBER: Final = ("", "n")

#: Characters of a block of rows.
_BLOCK: Final = 1 << 18

_UTF8: Final = re.compile(rb"""encoding\s*=\s*["'](?:utf-?8|us-ascii)["']""", re.IGNORECASE)
#: A character that XML cannot hold, as Excel writes it.
_ESCAPED: Final = re.compile("_x([0-9A-Fa-f]{4})_")
_REFERENCE: Final = re.compile(r"\$?([A-Z]{1,3})\$?([0-9]{1,7})")
#: Texts of numbers that are kept for each style; a column often repeats its values.
_CACHED: Final = 4096
#: Digits of a whole number that is shown as it is stored.
_EXACT_DIGITS: Final = 15


class Items:
    """The items of one large element of a part, apart from the rest of the part.

    Attributes:
        rest: The root element of the part; the element with the items is empty in it.
        prefix: The prefix of the element's name, with its colon.
    """

    def __init__(self, data: bytes, *, name: str, container: str) -> None:
        """Find the element.

        Args:
            data: The part.
            name: The part's name, for errors.
            container: The name of the element that holds the items.

        Raises:
            CorruptFile: If the part is not well-formed.
        """
        self._name = name
        self._text = text = _to_text(data, name)
        start = re.search(rf"<((?:[\w.-]+:)?){container}(?:\s[^>]*)?>", text)
        self.prefix = start[1] if start else ""
        self._tag = self.prefix + container
        end = text.rfind(f"</{self._tag}>") if start and not start[0].endswith("/>") else -1
        self._start, self._end = (start.end(), end) if start and end >= start.end() else (0, 0)
        rest = text[: self._start] + text[self._end :]
        self.rest = parse_xml(rest.encode(), name=name)

    def blocks(self, item: str) -> Iterator[str]:
        """Yield the text of the items in blocks of whole items with this name."""
        end = f"</{self.prefix}{item}>"
        at = self._start
        while at < self._end:
            cut = self._text.find(end, min(at + _BLOCK, self._end), self._end)
            after = self._end if cut < 0 else cut + len(end)
            if block := self._text[at:after].strip():
                yield block
            at = after

    def parse(self, block: str) -> Element:
        """Return the element with the items of a block.

        Raises:
            CorruptFile: If the block is not well-formed.
        """
        spaces = "".join(
            f" xmlns{':' if prefix else ''}{prefix or ''}={quoteattr(uri)}"
            for prefix, uri in self.rest.nsmap.items()
        )
        text = f"<{self._tag}{spaces}>{block}</{self._tag}>"
        return parse_xml(text.encode(), name=self._name)


def _to_text(data: bytes, name: str) -> str:
    declaration = data[:200]
    if b"encoding" in declaration and not _UTF8.search(declaration):
        return str(etree.tostring(parse_xml(data, name=name), encoding="unicode"))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        # Without a declaration it may still be UTF-16.
        return str(etree.tostring(parse_xml(data, name=name), encoding="unicode"))
    return re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1)


def read_strings(data: bytes, name: str) -> list[str]:
    """Return the shared strings of a workbook."""
    items = Items(data, name=name, container="sst")
    simple = re.compile(
        r"(<{0}si><{0}t(?: [^>]*)?>([^<]*)</{0}t></{0}si>\s*)".format(re.escape(items.prefix))
    )
    strings: list[str] = []
    for block in items.blocks("si"):
        found = simple.findall(block)
        if sum(len(whole) for whole, _ in found) == len(block):
            strings += [unescape(text) for _, text in found]
        else:
            strings += [_rich_text(item) for item in items.parse(block).iterchildren("{*}si")]
    return strings


def unescape(text: str) -> str:
    """Return the text of a string as XML and Excel write it."""
    return _decode(html.unescape(text) if "&" in text else text)


def _decode(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


def _rich_text(item: Element) -> str:
    """Return the text of a string of several runs, without its phonetic reading."""
    texts = (text.text or "" for text in item.iter("{*}t") if local_name(text.getparent()) != "rPh")
    return _decode("".join(texts))


@cache
def column_number(letters: str) -> int:
    """Return the 0-based number of a column, of up to three letters."""
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - 64
    return number - 1


def cell_position(reference: str) -> tuple[int, int] | None:
    """Return row (from 1) and column (from 0) of a reference such as `B3`."""
    found = _REFERENCE.fullmatch(reference)
    return (int(found[2]), column_number(found[1])) if found else None


class CellReader:
    """Turns stored values into texts, with the strings and formats of a workbook."""

    def __init__(self, strings: Sequence[str], codes: Sequence[str], *, date1904: bool) -> None:
        """Take what the workbook's cells refer to.

        Args:
            strings: The shared strings.
            codes: The code of the number format of each style.
            date1904: Whether days are counted from 1904.
        """
        self._strings = strings
        self._codes = codes
        self._date1904 = date1904
        self._numbers: dict[str, Callable[[str], str]] = {}

    def rows(self, items: Items) -> Iterator[Row]:
        """Yield the rows of a sheet that have values."""
        number, row = 0, dict[int, str]()
        texts = {"s": _nothing, "str": unescape, "inlineStr": unescape, "b": _boolean, "d": _iso_date}
        texts[_PARSED] = str
        numbers, strings, count = self._numbers, self._strings, len(self._strings)
        for pieces in _pieces(items):
            for _, letters, style, kind, value, inline, row_number in pieces:
                if letters:
                    if kind == "s" and value.isdecimal() and (at := int(value)) < count:
                        text = strings[at]
                    elif kind in _NUMBER:
                        text = (numbers.get(style) or self._number_writer(style))(value)
                    else:
                        text = texts.get(kind, unescape)(value or inline)
                    if text:
                        row[column_number(letters)] = text
                elif row_number:
                    if row:
                        yield number, row
                        row = {}
                    number = int(row_number)
        if row:
            yield number, row

    def _number_writer(self, style: str) -> Callable[[str], str]:
        at = int(style or 0) if len(style) < 9 else -1  # noqa: PLR2004 - no workbook has a billion styles
        code = self._codes[at] if 0 <= at < len(self._codes) else "General"
        write = make_formatter(code, date1904=self._date1904)
        is_plain = write is general

        @lru_cache(maxsize=_CACHED)
        def text_of(value: str) -> str:
            if is_plain and value.isdecimal() and len(value) <= _EXACT_DIGITS:
                return value
            try:
                number = float(value)
                return write(number)
            except (ValueError, OverflowError):
                return value

        self._numbers[style] = text_of
        return text_of


def _pieces(items: Items) -> Iterator[list[_Piece]]:
    """Yield the pieces of a sheet's rows, block by block."""
    simple = re.compile(
        r'(<{0}c r="([A-Z]{{1,3}})[0-9]+"(?: s="([0-9]+)")?(?: t="(\w+)")?'
        r"(?:/>|>(?:<{0}f(?: [^>]*)?(?:/>|>[^<]*</{0}f>))?"
        r"(?:<{0}v>([^<]*)</{0}v>|<{0}v/>|<{0}is><{0}t(?: [^>]*)?>([^<]*)</{0}t></{0}is>)?</{0}c>)\s*"
        r'|<{0}row r="([0-9]{{1,7}})"(?: [^>]*)?>\s*|</{0}row>\s*)'.format(re.escape(items.prefix))
    )
    pieces: list[_Piece] = []
    for block in items.blocks("row"):
        last = next((int(piece[6]) for piece in reversed(pieces) if piece[6]), 0)
        pieces = simple.findall(block)
        if sum(map(len, map(itemgetter(0), pieces))) != len(block):
            pieces = list(_parsed_pieces(items.parse(block), last))
        yield pieces


def _parsed_pieces(container: Element, last: int) -> Iterator[_Piece]:
    """Yield the pieces of rows that were not in the simple form; `last` is the number of the row before."""
    for row in container.iterchildren("{*}row"):
        number = attribute(row, "r")
        last = int(number) if number.isdecimal() and len(number) < 8 else last + 1  # noqa: PLR2004 - 1,048,576
        yield "", "", "", "", "", "", str(last)
        column = -1
        for cell in row.iterchildren("{*}c"):
            position = cell_position(attribute(cell, "r"))
            column = position[1] if position else column + 1
            value = next((child.text or "" for child in cell.iterchildren("{*}v")), "")
            inline = "".join(_rich_text(child) for child in cell.iterchildren("{*}is"))
            kind = attribute(cell, "t")
            if kind in {"str", "inlineStr"}:
                kind, value = _PARSED, _decode(value)
            yield "", column_letters(column), attribute(cell, "s"), kind, value, inline, ""


def column_letters(column: int) -> str:
    """Return the letters of a column, from its 0-based number."""
    letters = ""
    number = column + 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(65 + digit) + letters
    return letters


def _nothing(_value: str) -> str:
    return ""


def _boolean(value: str) -> str:
    return {"1": "TRUE", "0": "FALSE"}.get(value, value.upper())


def _iso_date(value: str) -> str:
    return value.replace("T", " ").removesuffix(" 00:00:00").removesuffix("Z")


def parse_styles(root: Element) -> list[str]:
    """Return the code of the number format of each style of a workbook."""
    own = {
        attribute(code, "numFmtId"): attribute(code, "formatCode")
        for block in root.iterchildren("{*}numFmts")
        for code in block
    }
    codes: list[str] = []
    for block in root.iterchildren("{*}cellXfs"):
        for style in block.iterchildren("{*}xf"):
            number = attribute(style, "numFmtId")
            known = own.get(number)
            if known is None:
                known = built_in_format(int(number)) if number.isdecimal() and len(number) < 6 else "General"  # noqa: PLR2004
            codes.append(known)
    return codes
