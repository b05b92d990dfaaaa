"""Markdown: the text is kept unchanged; headings, tables, code and paragraphs become segments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import BinaryIO, Final

from emberq.errors.file_warnings import WarningCode
from emberq.pipeline.document import Segment, SegmentKind
from emberq.pipeline.extract.builder import DocumentBuilder, clean
from emberq.pipeline.extract.encoded import count_pictures
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.text.lines import Lines

_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_SETEXT: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
#: All quantifiers are possessive: others would try every way to divide a long line of spaces.
_TABLE_RULE: Final = re.compile(r"[ \t]*+\|?+[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+\|?[ \t]*+$")


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a Markdown file; the segment of a heading includes its marks."""
    data = stream.read()
    write_markdown(decode(data), build)
    if pictures := count_pictures(data):
        build.warn(WarningCode.IMAGES_SKIPPED, count=pictures)


def write_markdown(text: str, build: DocumentBuilder) -> None:
    """Append Markdown to a document, unchanged."""
    text = clean(text)
    build.extend(text, _segments(text))


def _segments(text: str) -> Iterator[Segment]:
    lines = Lines(text)
    at = 0
    while at < len(lines):
        if lines.is_blank(at):
            at += 1
            continue
        segment, at = _block(lines, at)
        yield segment


def _block(lines: Lines, at: int) -> tuple[Segment, int]:
    """Return the block that begins on a line, and the number of the line after it."""
    line = lines.lines[at]
    if heading := _ATX.match(line):
        return lines.segment(SegmentKind.HEADING, at, at + 1, len(heading[1])), at + 1
    if fence := _FENCE.match(line):
        after = _closing(lines, at + 1, fence[1])
        return lines.segment(SegmentKind.PARAGRAPH, at, after), after
    if at == 0 and line.rstrip() == "---":
        after = _front_matter_end(lines)
        return lines.segment(SegmentKind.PARAGRAPH, at, after), after
    if _is_table(lines, at):
        after = at + 2
        while not lines.is_blank(after) and "|" in lines.lines[after]:
            after += 1
        table = lines.segment(SegmentKind.TABLE, at, after)
        return replace(table, header=(lines.starts[at], lines.starts[at + 1] - 1)), after
    return _paragraph(lines, at)


def _closing(lines: Lines, at: int, fence: str) -> int:
    """Return the number of the line after a code block's closing fence, or after the last line."""
    while at < len(lines):
        line = lines.lines[at].strip()
        at += 1
        if line.startswith(fence) and not line.strip(fence[0]):
            break
    return at


def _front_matter_end(lines: Lines) -> int:
    for number in range(1, len(lines)):
        if lines.lines[number].rstrip() in {"---", "..."}:
            return number + 1
    return 1


def _is_table(lines: Lines, at: int) -> bool:
    if "|" not in lines.lines[at] or lines.is_blank(at + 1):
        return False
    rule = lines.lines[at + 1]
    return "|" in rule and _TABLE_RULE.match(rule) is not None


def _paragraph(lines: Lines, at: int) -> tuple[Segment, int]:
    first = at
    at += 1
    while not lines.is_blank(at):
        line = lines.lines[at]
        if underline := _SETEXT.match(line):
            level = 1 if underline[1].startswith("=") else 2
            return lines.segment(SegmentKind.HEADING, first, at + 1, level), at + 1
        if _ATX.match(line) or _FENCE.match(line) or _is_table(lines, at):
            break
        at += 1
    return lines.segment(SegmentKind.PARAGRAPH, first, at), at
