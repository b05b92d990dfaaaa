"""Markdown: the text is kept unchanged; headings, tables, code and paragraphs become segments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.pipeline.document import Segment, SegmentKind
from emberq.pipeline.extract.builder import DocumentBuilder, clean
from emberq.pipeline.extract.decode import decode

_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_SETEXT: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
#: All quantifiers are possessive: others would try every way to divide a long line of spaces.
_TABLE_RULE: Final = re.compile(r"[ \t]*+\|?+[ \t]*+:?-++:?[ \t]*+(?:\|[ \t]*+:?-++:?[ \t]*+)*+\|?[ \t]*+$")


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a Markdown file; the segment of a heading includes its marks."""
    text = clean(decode(stream.read()))
    build.extend(text, _segments(text))


class _Lines:
    """The lines of a text, and the index at which each starts."""

    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def __len__(self) -> int:
        return len(self.lines)

    def segment(self, kind: SegmentKind, first: int, after: int, level: int = 0) -> Segment:
        """Return the segment of the lines from `first` up to, but not including, `after`."""
        return Segment(kind, self.starts[first], self.starts[after] - 1, None, level)

    def is_blank(self, number: int) -> bool:
        """Return whether a line is blank; lines after the last one count as blank."""
        return number >= len(self.lines) or not self.lines[number].strip()


def _segments(text: str) -> Iterator[Segment]:
    lines = _Lines(text)
    at = 0
    while at < len(lines):
        if lines.is_blank(at):
            at += 1
            continue
        segment, at = _block(lines, at)
        yield segment


def _block(lines: _Lines, at: int) -> tuple[Segment, int]:
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
        return lines.segment(SegmentKind.TABLE, at, after), after
    return _paragraph(lines, at)


def _closing(lines: _Lines, at: int, fence: str) -> int:
    """Return the number of the line after a code block's closing fence, or after the last line."""
    while at < len(lines):
        line = lines.lines[at].strip()
        at += 1
        if line.startswith(fence) and not line.strip(fence[0]):
            break
    return at


def _front_matter_end(lines: _Lines) -> int:
    for number in range(1, len(lines)):
        if lines.lines[number].rstrip() in {"---", "..."}:
            return number + 1
    return 1


def _is_table(lines: _Lines, at: int) -> bool:
    if "|" not in lines.lines[at] or lines.is_blank(at + 1):
        return False
    rule = lines.lines[at + 1]
    return "|" in rule and _TABLE_RULE.match(rule) is not None


def _paragraph(lines: _Lines, at: int) -> tuple[Segment, int]:
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
