"""Decoding of text in any encoding; it never fails: bytes that cannot be decoded become U+FFFD."""

from __future__ import annotations

import codecs
import re
from typing import Final

import chardet

#: Byte order marks and their encodings; UTF-32 first, because its little-endian mark begins like UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

#: Bytes in which UTF-16 and UTF-32 without a mark are detected; enough for some lines of any script.
_WIDE_SAMPLE: Final = 4096

#: Least share of units with a zero byte in UTF-16; spaces and line ends alone make this share.
_WIDE_ZEROS: Final = 0.04

#: Least share of printable characters in a text.
_PRINTABLE: Final = 0.95

#: Bytes of non-ASCII lines from which a legacy encoding is detected; more do not change the result.
_SAMPLE: Final = 64 * 1024

#: Most bytes of a line before its first non-ASCII byte; a minified file is one line.
_BEFORE: Final = 1024

#: The legacy encodings that files of people and programs have, in chardet's names, which are codecs. The rest
#: (of mainframes, and of single printers and systems) would be taken for others in short texts.
_LEGACY: Final = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258"),
    *("iso8859-1", "iso8859-2", "iso8859-3", "iso8859-4", "iso8859-5", "iso8859-6", "iso8859-7", "iso8859-8"),
    *("iso8859-9", "iso8859-10", "iso8859-13", "iso8859-15", "iso8859-16", "koi8-r", "koi8-u"),
    *("cp437", "cp737", "cp850", "cp852", "cp855", "cp857", "cp858", "cp865", "cp866"),
    *("mac-roman", "mac-latin2", "mac-cyrillic", "mac-greek"),
    *("cp874", "cp932", "shift_jis_2004", "euc_jis_2004", "gb18030", "big5hkscs", "cp949", "johab"),
)

_WITHOUT_ISO_8859: Final = tuple(name for name in _LEGACY if not name.startswith("iso8859"))

#: A score up to this is no evidence. Of 1,900 texts in other encodings than windows-1252 that were detected
#: rightly, none had a lower one; a table with names from many countries has.
_NO_EVIDENCE: Final = 0.04

#: What is read as its superset, as browsers do.
_SUPERSETS: Final = {
    "iso8859-1": "cp1252",
    "iso8859-8": "cp1255",
    "iso8859-9": "cp1254",
    "shift_jis_2004": "cp932",
}

#: The escape sequences that begin Japanese and Korean text in seven bits, and the encoding of each.
_ISO_2022: Final = (
    (re.compile(rb"\x1b\$\)C"), "iso2022_kr"),
    (re.compile(rb"\x1b\$(?:[@AB]|\([CD])"), "iso2022_jp_2"),
)

# A reader's child cannot import codecs any more. The last one is chardet's own need.
for _name in (*_LEGACY, *_SUPERSETS.values(), *(encoding for _, encoding in _ISO_2022), "cp037"):
    codecs.lookup(_name)

_ASCII: Final = bytes(range(0x80))
_HIGH: Final = bytes(range(0x80, 0x100))
_NON_ASCII: Final = re.compile(rb"[\x80-\xff]")
_CONTROLS_1: Final = re.compile(rb"[\x80-\x9f]")
_LINE_END: Final = re.compile(rb"[\r\n]+")


def decode(data: bytes) -> str:
    """Decode text of unknown encoding.

    It tries, in this order: the byte order mark, strict UTF-8, UTF-16 and UTF-32 by their zero bytes, damaged
    UTF-8, and legacy encodings by their letters and words, of which windows-1252 is preferred.

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
        return text if "\x1b$" not in text else _decode_iso_2022(data) or text
    if wide := guess_wide(data):
        return data.decode(wide, "replace")
    return text or _decode_damaged(data)


def guess_wide(data: bytes) -> str | None:
    """Return the encoding of UTF-16 or UTF-32 without a mark; None if the bytes do not look like it."""
    sample = data[: min(len(data) // 4 * 4 or len(data), _WIDE_SAMPLE)]
    zeros = sample.count(0)
    if zeros < max(1, len(sample) // 4 * _WIDE_ZEROS):
        return None
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    # Of each unit of UTF-32 at least two bytes are zero in nearly all texts.
    candidates = ["utf-32-le", "utf-32-be"] if zeros * 2 >= len(sample) else []
    if min(even, odd) * 10 <= max(even, odd):
        candidates.append("utf-16-le" if odd > even else "utf-16-be")
    return next((encoding for encoding in candidates if _is_readable(sample, encoding)), None)


def _is_readable(sample: bytes, encoding: str) -> bool:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return False
    printable = sum(char.isprintable() or char in "\t\n\r\f" for char in text)
    return bool(text) and printable >= _PRINTABLE * len(text)


def _decode_damaged(data: bytes) -> str:
    """Decode bytes that are damaged UTF-8 or in a legacy encoding."""
    text = data.decode("utf-8", "replace")
    damaged = text.count("\ufffd")
    intact = len(text) - damaged - len(data.translate(None, _HIGH))
    if intact >= damaged:
        return text
    return data.decode(_legacy_encoding(data), "replace")


def _decode_iso_2022(data: bytes) -> str | None:
    """Decode Japanese or Korean text in seven bits; return None if it is not such text."""
    for mark, encoding in _ISO_2022:
        if mark.search(data):
            try:
                return data.decode(encoding)
            except UnicodeDecodeError:
                continue
    return None


def _legacy_encoding(data: bytes) -> str:
    """Return the most likely encoding of bytes that are not Unicode.

    A few non-ASCII bytes are little evidence. The score of an encoding other than windows-1252 must then be
    better by a factor: twice as high for a single byte.
    """
    sample = _non_ascii_lines(data)
    # In the encodings of ISO 8859 these bytes are control characters.
    legacy = _LEGACY if not _CONTROLS_1.search(sample) else _WITHOUT_ISO_8859
    found = chardet.detect_all(
        sample,
        ignore_threshold=True,
        compat_names=False,
        include_encodings=legacy,
        no_match_encoding="cp1252",
    )
    scores: dict[str, float] = {}
    for one in found:
        name = one["encoding"] or "cp1252"
        scores.setdefault(_SUPERSETS.get(name, name), one["confidence"])
    best, score = next(iter(scores.items()))
    needed = scores.get("cp1252", 0.0) * (1 + len(sample.translate(None, _ASCII)) ** -2)
    if score > max(needed, _NO_EVIDENCE):
        return best
    # In ISO 8859-15 this byte is the euro sign, in windows-1252 a sign for any currency.
    return "iso8859-15" if b"\xa4" in sample and legacy is _LEGACY else "cp1252"


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
