"""The fonts of an RTF document, which decide how its bytes are read."""

from __future__ import annotations

import codecs
import re
from typing import Final

#: The encodings of fonts by their number.
_CHARSETS: Final = dict(
    (
        *((0, "cp1252"), (77, "mac_roman"), (78, "cp932"), (79, "cp949"), (80, "gbk"), (81, "big5")),
        *((128, "cp932"), (129, "cp949"), (130, "johab"), (134, "gbk"), (136, "big5"), (161, "cp1253")),
        *((162, "cp1254"), (163, "cp1258"), (177, "cp1255"), (178, "cp1256"), (186, "cp1257")),
        *((204, "cp1251"), (222, "cp874"), (238, "cp1250"), (254, "cp437"), (255, "cp850")),
    )
)
#: The number of fonts of symbols.
_SYMBOLS: Final = 2

#: Code pages under other names than Python's.
_CODE_PAGES: Final = {
    10000: "mac_roman",
    10007: "mac_cyrillic",
    10029: "mac_latin2",
    65001: "utf-8",
    936: "gbk",
}

#: Control words that declare the encoding of the document.
_DECLARED: Final = {b"mac": "mac_roman", b"pc": "cp437", b"pca": "cp850"}

#: An entry of the table: its number, what is said of it, its name.
_FONT: Final = re.compile(rb"\\f(\d{1,5})(?!\d)([^;]{0,2000})")
_CHARSET: Final = re.compile(rb"\\fcharset(\d{1,3})(?!\d)")
_CODE_PAGE: Final = re.compile(rb"\\cpg(\d{1,5})(?!\d)")

#: Greek letters of the font Symbol, from A to Z and from a to z.
_GREEK: Final = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
        "ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖαβχδεφγηιϕκλμνοπθρστυϖωξψζ",
        strict=True,
    )
)
#: Signs of Symbol, and marks of Wingdings that say something: boxes and ticks.
_SIGNS: Final = dict(
    zip(
        b"\xb7\xa7\xb1\xb3\xa3\xb9\xb4\xb8\xbb\xa5\xb0\xae\xac\xd7\xe5\xf2\xd6\xce\xa8\x6f\xfe\xfd\xfc\xfb\xe0\xd8\x76",
        "••±≥≤≠×÷≈∞°→←⋅∑∫√∈☐☐☑☒✓✗→••",  # noqa: RUF001 - they are signs
        strict=True,
    )
)


def symbol(code: int, font: str) -> str:
    """Return a character of a font of symbols; nothing if it says nothing.

    Args:
        code: Its number in the font.
        font: The font's name, if it is known.
    """
    char = chr(code)
    if "symbol" in font.lower():
        return _GREEK.get(char) or _SIGNS.get(code) or (char if char.isascii() and not char.isalpha() else "")
    return _SIGNS.get(code, "")


class Fonts:
    """The fonts of a document."""

    def __init__(self) -> None:
        self.default = 0
        self._encoding = "cp1252"
        self._encodings: dict[int, str] = {}
        self._names: dict[int, str] = {}
        self._are_symbols: set[int] = set()

    def choose(self, word: bytes, number: int | None, font: int) -> int:
        """Return the font from a control word on; note what the word declares for the document.

        Args:
            word: The control word.
            number: Its number.
            font: The font so far.
        """
        match word:
            case b"f":
                return number or 0
            case b"deff":
                self.default = number or 0
                return self.default
            case b"ansicpg":
                self._encoding = _code_page(number or 0) or self._encoding
            case _:
                self._encoding = _DECLARED.get(word, self._encoding)
        return font

    def read_table(self, table: bytes) -> None:
        """Note the fonts of the table."""
        for entry in _FONT.finditer(table):
            number, said = int(entry[1]), entry[2]
            charset = _CHARSET.search(said)
            page = _CODE_PAGE.search(said)
            self._names[number] = said.rpartition(b" ")[2].decode("latin-1")
            if charset and int(charset[1]) == _SYMBOLS:
                self._are_symbols.add(number)
            encoding = (
                _code_page(int(page[1])) if page else _CHARSETS.get(int(charset[1])) if charset else None
            )
            if encoding:
                self._encodings[number] = encoding

    def decode(self, data: bytes, font: int) -> str:
        """Return the text of bytes in a font."""
        if font in self._are_symbols:
            name = self._names[font]
            return "".join(symbol(byte, name) if byte != ord(" ") else " " for byte in data)
        if data.isascii():
            return data.decode("ascii")
        encoding = self._encodings.get(font, self._encoding)
        if encoding == "cp1252" and self._encoding == "utf-8":
            encoding = "utf-8"
        return data.decode(encoding, "replace")


def _code_page(number: int) -> str | None:
    name = _CODE_PAGES.get(number, f"cp{number}")
    try:
        codecs.lookup(name)
    except LookupError:
        return None
    return name
