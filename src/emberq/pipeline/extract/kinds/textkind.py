"""Detects the kind of a text: JSON, HTML, calendars, CSV, Markdown or plain text."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import BinaryIO, Final

from emberq.pipeline.extract import media
from emberq.pipeline.extract.kinds.markupkind import markup_kind
from emberq.pipeline.extract.text.calendars import BEGIN
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.text.delimited import find_delimiter
from emberq.pipeline.extract.text.jsondata import parse_json

_SUFFIXES: Final = {
    ".csv": media.CSV,
    ".tsv": media.CSV,
    ".tab": media.CSV,
    ".md": media.MARKDOWN,
    ".markdown": media.MARKDOWN,
    ".mdown": media.MARKDOWN,
    ".txt": media.TEXT,
    ".text": media.TEXT,
    ".log": media.TEXT,
    ".htm": media.HTML,
    ".html": media.HTML,
    ".xhtml": media.HTML,
}

# Possessive quantifiers and atomic groups do not backtrack, so hostile text cannot make these patterns try
# every way to divide it.
_HTML_DOCUMENT: Final = re.compile(
    r"\s*+(?:<\?xml[^>]*+>\s*+)?+(?:(?><!--.*?-->)\s*+)*+<(?:!doctype\s+html|html|head|body)[\s>]",
    re.IGNORECASE | re.DOTALL,
)
#: The elements of HTML that are seen in pieces without `<html>`.
_ELEMENTS: Final = (
    "a|abbr|address|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|dd|del|details|div|dl|dt"
    "|em|fieldset|figcaption|figure|font|footer|form|h[1-6]|header|hr|i|iframe|img|ins|kbd|li|link|main|mark|meta|nav"
    "|ol|p|picture|pre|q|s|script|section|small|span|strike|strong|style|sub|summary|sup|table|tbody|td|th|thead"
    "|title|tr|tt|u|ul|var|video"
)
#: The beginning of a piece of HTML: one of these elements.
_HTML_PIECE: Final = re.compile(
    rf"\s*+(?:(?><!--.*?-->)\s*+)*+<(?:{_ELEMENTS})(?:\s[^<>]*+)?+/?>", re.IGNORECASE | re.DOTALL
)
#: A tag of one of these elements.
_HTML_TAG: Final = re.compile(rf"<(/?)(?:{_ELEMENTS})(?:\s[^<>]*+)?+/?>", re.IGNORECASE)
#: A character that HTML writes by its name or number.
_HTML_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,24});")
#: A tag in a string of a program, or in a text that quotes it.
_QUOTED_TAG: Final = re.compile(r"[\"'`]</?\w")
#: Least tags of a piece of HTML that begins with text, one of them an end, and most characters a tag.
_MIN_TAGS: Final = 4
_CHARACTERS_PER_TAG: Final = 400

_MARKDOWN_MARKS: Final = {
    "heading": re.compile(r"^ {0,3}#{1,6} +\S", re.MULTILINE),
    "underlined": re.compile(r"^\S[^\n]*\n(?:={3,}|-{3,})[ \t]*$", re.MULTILINE),
    "fence": re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE),
    "link": re.compile(r"\[[^\[\]\n]++\]\([^()\s][^()\n]*+\)"),
    "rule": re.compile(
        r"^ {0,3}\|?+[ \t]*+:?-{3,}+:?[ \t]*+(?:\|[ \t]*+:?-{3,}+:?[ \t]*+)++\|?[ \t]*+$", re.MULTILINE
    ),
    "list": re.compile(r"^ {0,3}(?:[-*+]|\d{1,3}\.) +\S", re.MULTILINE),
    "strong": re.compile(r"\*\*[^\s*][^*\n]*\*\*"),
    "quote": re.compile(r"^ {0,3}> ?\S", re.MULTILINE),
}
#: Marks that plain text rarely has; it often has lists and quotes.
_TELLING_MARKS: Final = frozenset({"heading", "underlined", "fence", "link", "rule", "strong"})
#: A title on the first line, with a blank line after it.
_TITLE: Final = re.compile(r"\s*# +\S[^\n]*\n\s*\n")

#: Lines of programs and of configuration files.
_CODE: Final = re.compile(
    r"^(?:import \w|from \S+ import |def \w+\(|class \w+[:(]|#(?:include|define) |[\w.]++ ?= ?\S"
    r"|\[[\w.-]+\]$)",
    re.MULTILINE,
)

#: Least rows of a table, if the file's name does not say CSV, and if it does.
_CSV_ROWS: Final = 3
_CSV_ROWS_NAMED: Final = 1


def text_kind(head: bytes, stream: BinaryIO, *, name: str | None) -> str:
    """Return the media type of a text.

    Args:
        head: The first bytes of the text.
        stream: The open file, after `head`; it is read again only if `head` looks like JSON.
        name: The file's name; it decides only if the text is ambiguous.
    """
    text = decode(head)
    is_whole = not stream.read(1)
    if kind := _json_kind(text, stream, is_whole=is_whole):
        return kind
    marks = {mark for mark, pattern in _MARKDOWN_MARKS.items() if pattern.search(text)}
    hint = _SUFFIXES.get(PurePath(name or "").suffix.lower())
    if _HTML_DOCUMENT.match(text):
        return media.HTML
    if text.lstrip()[: len(BEGIN)].upper() == BEGIN:
        return media.ICALENDAR
    if kind := markup_kind(text, name):
        return kind
    if not marks & _TELLING_MARKS and _is_html_piece(text, hint):
        return media.HTML
    return _plain_kind(text if is_whole else text.rpartition("\n")[0] or text, marks, hint)


def _is_html_piece(text: str, hint: str | None) -> bool:
    """Return whether a text is HTML without `<html>`: it begins with an element, or has many tags."""
    if hint not in {None, media.HTML}:
        return "</" in text and _HTML_PIECE.match(text) is not None
    tags = list(_HTML_TAG.finditer(text))
    if not tags:
        return hint == media.HTML and _HTML_ENTITY.search(text) is not None
    if hint == media.HTML or (_HTML_PIECE.match(text) and "</" in text):
        return True
    ends = sum(bool(tag[1]) for tag in tags)
    is_dense = len(tags) >= _MIN_TAGS and len(text) <= _CHARACTERS_PER_TAG * len(tags)
    return bool(ends) and is_dense and not _CODE.search(text) and not _QUOTED_TAG.search(text)


def _plain_kind(text: str, marks: set[str], hint: str | None) -> str:
    """Return Markdown, CSV or plain text: by the text if it is clear, otherwise by the name's hint."""
    if text.startswith("#!") or (_CODE.search(text) and "fence" not in marks):
        # In a program, a line that begins with # is a comment.
        marks = marks - {"heading"}
    telling = len(marks & _TELLING_MARKS)
    if "rule" in marks or (telling and len(marks) > 1) or ("heading" in marks and _TITLE.match(text)):
        return media.MARKDOWN
    if find_delimiter(text, min_rows=_CSV_ROWS):
        return media.CSV
    if hint == media.CSV and (find_delimiter(text, min_rows=_CSV_ROWS_NAMED) or _is_column(text)):
        return media.CSV
    return media.MARKDOWN if hint == media.MARKDOWN else media.TEXT


def _is_column(text: str) -> bool:
    """Return whether a text may be a table of one column: it has no blank lines between rows."""
    return all(line.strip() for line in text.strip().splitlines())


def _json_kind(text: str, stream: BinaryIO, *, is_whole: bool) -> str | None:
    if not text.lstrip().startswith(("{", "[")):
        return None
    if _has_json_lines(text, is_whole=is_whole):
        return media.JSON_LINES
    if not is_whole:
        stream.seek(0)
        text = decode(stream.read())
    if _is_json(text):
        return media.NOTEBOOK if '"nbformat"' in text and '"cell_type"' in text else media.JSON
    return media.JSON_LINES if _has_json_lines(text, is_whole=True) else None


def _has_json_lines(text: str, *, is_whole: bool) -> bool:
    """Return whether each of the first two lines is a JSON value; a line at the end of a part may be cut."""
    first, second, rest = (*text.lstrip().split("\n", 2), "", "")[:3]
    return bool(rest or (second and is_whole)) and _is_json(first) and _is_json(second)


def _is_json(text: str) -> bool:
    try:
        return isinstance(parse_json(text), dict | list)
    except ValueError:
        return False
