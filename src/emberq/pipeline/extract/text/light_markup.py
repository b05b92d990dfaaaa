"""reStructuredText, Org and source code: the text is kept unchanged; headings and blocks become segments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.pipeline.document import Segment, SegmentKind
from emberq.pipeline.extract.builder import DocumentBuilder, clean
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.text.lines import Lines

#: A line under, or over and under, a title of reStructuredText: one sign again and again.
_ADORNMENT: Final = re.compile(r"([!-/:-@\[-`{-~])\1{2,}+[ \t]*+$")
_RST_TABLE: Final = re.compile(r"[ \t]*+(?:\+[-=]{2,}|={2,}+ +=)")
_ORG_HEADING: Final = re.compile(r"(\*++)[ \t]++\S")
_ORG_TITLE: Final = re.compile(r"#\+title:[ \t]*+\S", re.IGNORECASE)
_ORG_BLOCK: Final = re.compile(r"[ \t]*+#\+begin_(\w++)", re.IGNORECASE)
#: A line that ends what stands before it, after an empty line too.
_CLOSING: Final = re.compile(r"[})\]]|end\b|else\b|elif\b|except\b|finally\b|catch\b")


def read_rst(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read reStructuredText; the segment of a heading includes the lines over and under it."""
    text = clean(decode(stream.read()))
    build.extend(text, _rst_segments(Lines(text)))


def read_org(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read an Org file; the segment of a heading includes its stars."""
    text = clean(decode(stream.read()))
    build.extend(text, _org_segments(Lines(text)))


def read_source(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read a program; each function or class at the margin is a segment with all that is indented below."""
    text = clean(decode(stream.read()))
    build.extend(text, _source_segments(Lines(text)))


def _rst_segments(lines: Lines) -> Iterator[Segment]:
    # The levels are in the order in which a file uses the signs.
    styles: list[tuple[str, bool]] = []
    at = 0
    while at < len(lines):
        if lines.is_blank(at):
            at += 1
            continue
        if title := _rst_title(lines, at):
            style, after = title
            if style not in styles:
                styles.append(style)
            yield lines.segment(SegmentKind.HEADING, at, after, styles.index(style) + 1)
        else:
            after = at + 1
            is_table = _RST_TABLE.match(lines.lines[at]) is not None
            is_open = lines.lines[at].startswith("..") or lines.lines[at].rstrip().endswith("::")
            while after < len(lines) and not _ends_rst(lines, after, is_open=is_open):
                after += 1
            yield lines.segment(SegmentKind.TABLE if is_table else SegmentKind.PARAGRAPH, at, after)
        at = after


def _ends_rst(lines: Lines, at: int, *, is_open: bool) -> bool:
    """Return whether a block ends before a line; the indented lines below a directive belong to it."""
    if lines.is_blank(at):
        return not (is_open and lines.is_indented(at + 1))
    return not lines.is_indented(at) and _rst_title(lines, at) is not None


def _rst_title(lines: Lines, at: int) -> tuple[tuple[str, bool], int] | None:
    """Return the style of a title that begins on a line, and the number of the line after it."""
    line = lines.lines[at]
    over = _ADORNMENT.match(line)
    if over is None:
        under = None if lines.is_blank(at + 1) else _ADORNMENT.match(lines.lines[at + 1])
        is_long_enough = under is not None and len(under[0].rstrip()) >= min(len(line.rstrip()), 4)
        if under is None or not is_long_enough or lines.is_indented(at):
            return None
        return (under[1], False), at + 2
    if lines.is_blank(at + 1) or lines.is_blank(at + 2):
        return None
    under = _ADORNMENT.match(lines.lines[at + 2])
    return ((over[1], True), at + 3) if under is not None and under[1] == over[1] else None


def _org_segments(lines: Lines) -> Iterator[Segment]:
    at = 0
    while at < len(lines):
        if lines.is_blank(at):
            at += 1
            continue
        line = lines.lines[at]
        after = at + 1
        if heading := _ORG_HEADING.match(line):
            yield lines.segment(SegmentKind.HEADING, at, after, len(heading[1]))
        elif _ORG_TITLE.match(line):
            yield lines.segment(SegmentKind.HEADING, at, after, 1)
        else:
            is_table = line.lstrip().startswith("|")
            if block := _ORG_BLOCK.match(line):
                after = _org_block_end(lines, after, block[1].lower())
            else:
                while not lines.is_blank(after) and not _begins_org(lines.lines[after], is_table=is_table):
                    after += 1
            yield lines.segment(SegmentKind.TABLE if is_table else SegmentKind.PARAGRAPH, at, after)
        at = after


def _begins_org(line: str, *, is_table: bool) -> bool:
    if line.lstrip().startswith("|") != is_table:
        return True
    return any(pattern.match(line) for pattern in (_ORG_HEADING, _ORG_TITLE, _ORG_BLOCK))


def _org_block_end(lines: Lines, at: int, name: str) -> int:
    end = f"#+end_{name}"
    while at < len(lines):
        at += 1
        if lines.lines[at - 1].strip().lower().startswith(end):
            break
    return at


def _source_segments(lines: Lines) -> Iterator[Segment]:
    first = None
    for at in range(len(lines) + 1):
        is_border = at == len(lines) or (
            not lines.is_blank(at)
            and not lines.is_indented(at)
            and (at == 0 or lines.is_blank(at - 1))
            and not _CLOSING.match(lines.lines[at])
        )
        if is_border:
            if first is not None:
                yield lines.segment(SegmentKind.PARAGRAPH, first, at)
            first = at
