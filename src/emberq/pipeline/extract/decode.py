"""Decoding of text in any encoding; it never fails: bytes that cannot be decoded become U+FFFD."""

from __future__ import annotations

import codecs
import re
from typing import Final

from charset_normalizer import CharsetMatch, from_bytes

#: Byte order marks and their encodings; UTF-32 first, because its little-endian mark begins like UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

#: Bytes in which UTF-16 without a mark is detected; enough for some lines of any script.
_UTF16_SAMPLE: Final = 4096

#: Least share of units with a zero byte in UTF-16; spaces and line ends alone make this share.
_UTF16_ZEROS: Final = 0.02

#: Bytes of non-ASCII lines that charset-normalizer gets; more do not change its result.
_SAMPLE: Final = 64 * 1024

#: Most bytes of a line before its first non-ASCII byte; a minified file is one line.
_BEFORE: Final = 1024

#: The encodings that are still common in files without Unicode. With all of Python's, more would be wrong.
_LEGACY: Final = [
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "koi8_r", "iso8859_2"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949", "cp874"),
]

#: Legacy encodings of Latin scripts: if one of them fits, windows-1252 nearly always fits too.
_LATIN: Final = frozenset({"cp1250", "cp1257", "iso8859_2"})

#: Fewer non-ASCII bytes than this are not enough evidence for an encoding other than windows-1252.
_FEW: Final = 4

#: Largest share of non-ASCII letters in a text of a Western language (except Vietnamese).
_WESTERN_SHARE: Final = 0.3

#: How much worse the score of windows-1252 may be, on charset-normalizer's scale of 0 to 1.
_TOLERANCE: Final = 0.05

_ASCII: Final = bytes(range(0x80))
_HIGH: Final = bytes(range(0x80, 0x100))
_NON_ASCII: Final = re.compile(rb"[\x80-\xff]")
_LINE_END: Final = re.compile(rb"[\r\n]+")
#: A sign inside a word, or a capital after a small letter: a misread letter of another encoding.
_MISREAD: Final = re.compile(
    "[A-Za-z\u00df-\u00f6\u00f8-\u00ff]"
    "[\u00a1-\u00a9\u00ab\u00ac\u00ae-\u00b6\u00b8\u00b9\u00bb-\u00d6\u00d7-\u00de\u00f7\u2020\u2021\u2039\u203a"
    "\u0152\u0160\u0178\u017d]"
    "[a-z\u00df-\u00f6\u00f8-\u00ff]"
)


def decode(data: bytes) -> str:
    """Decode text of unknown encoding.

    It tries, in this order: the byte order mark, strict UTF-8, UTF-16 by its zero bytes, damaged UTF-8, and
    legacy code pages, of which windows-1252 is preferred.

    Returns:
        The text without its byte order mark; bytes that cannot be decoded become U+FFFD.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and "\0" not in text:
        return text
    if utf16 := guess_utf16(data):
        return data.decode(utf16, "replace")
    return text or _decode_damaged(data)


def guess_utf16(data: bytes) -> str | None:
    """Return `utf-16-le` or `utf-16-be` if the bytes look like UTF-16 without a mark, otherwise None."""
    sample = data[: min(len(data) // 2 * 2, _UTF16_SAMPLE)]
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) < max(1, len(sample) // 2 * _UTF16_ZEROS) or min(even, odd) * 10 > max(even, odd):
        return None
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return None
    printable = sum(char.isprintable() or char in "\t\n\r\f" for char in text)
    return encoding if printable >= 0.95 * len(text) else None


def _decode_damaged(data: bytes) -> str:
    """Decode bytes that are damaged UTF-8 or in a legacy encoding."""
    text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    intact = len(text) - damaged - len(data.translate(None, _HIGH))
    if intact >= damaged:
        return text
    return data.decode(_legacy_encoding(data), "replace")


def _legacy_encoding(data: bytes) -> str:
    """Return the most likely encoding of bytes that are not Unicode."""
    sample = _non_ascii_lines(data)
    western = _is_western(sample)
    matches = from_bytes(sample, cp_isolation=_LEGACY)
    best = matches.best()
    if best is None or (western and len(sample.translate(None, _ASCII)) < _FEW):
        return "cp1252"
    if western and best.encoding in _LATIN and _fits_cp1252(best, list(matches)):
        return "cp1252"
    return best.encoding


def _non_ascii_lines(data: bytes) -> bytes:
    """Return the first lines with non-ASCII bytes; of a long line, a part."""
    sample = bytearray()
    at = 0
    while len(sample) < _SAMPLE and (found := _NON_ASCII.search(data, at)):
        earliest = max(at, found.start() - _BEFORE)
        before = _last_line_end(data, earliest, found.start())
        line_end = _LINE_END.search(data, found.start(), found.start() + _SAMPLE)
        at = line_end.end() if line_end else found.start() + _SAMPLE
        sample += data[before:at]
    return bytes(sample)


def _last_line_end(data: bytes, earliest: int, before: int) -> int:
    """Return the start of the line that contains `before`; `earliest` if it starts before that."""
    return max(data.rfind(b"\n", earliest, before) + 1, data.rfind(b"\r", earliest, before) + 1, earliest)


def _is_western(sample: bytes) -> bool:
    """Return whether the bytes, read as windows-1252, look like a Western European language."""
    try:
        text = sample.decode("cp1252")
    except UnicodeDecodeError:
        return False
    if _MISREAD.search(text):
        return False
    letters = sum(char.isalpha() for char in text)
    foreign = sum(char.isalpha() and not char.isascii() for char in text)
    return foreign <= max(_FEW, _WESTERN_SHARE * letters)


def _fits_cp1252(best: CharsetMatch, matches: list[CharsetMatch]) -> bool:
    """Return whether windows-1252 fits nearly as well as the best match."""
    for match in matches:
        if "cp1252" in match.could_be_from_charset:
            return match.chaos <= best.chaos + _TOLERANCE and match.coherence >= best.coherence - _TOLERANCE
    return False
