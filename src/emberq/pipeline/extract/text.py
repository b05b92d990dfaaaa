"""Plain text, kept as it is, and CSV, read into rows."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.pipeline.document import Segment, SegmentKind
from emberq.pipeline.extract.builder import DocumentBuilder, clean
from emberq.pipeline.extract.decode import decode
from emberq.pipeline.extract.delimited import find_delimiter

__all__ = ["read", "read_csv", "write_text"]

_BLANK_LINES: Final = re.compile(r"\n[^\S\n]*\n\s*")

#: Characters of a file from which its delimiter is told.
_SAMPLE: Final = 64 * 1024


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read plain text; blank lines part its paragraphs."""
    write_text(decode(stream.read()), build)


def write_text(text: str, build: DocumentBuilder) -> None:
    """Append plain text to a document as it stands."""
    text = clean(text)
    build.extend(text, _paragraphs(text))


def read_csv(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read delimited text; what does not parse as such is taken as plain text."""
    text = clean(decode(stream.read()))
    sample = text if len(text) <= _SAMPLE else text[:_SAMPLE].rpartition("\n")[0]
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=find_delimiter(sample) or ","))
    except csv.Error:
        write_text(text, build)
        return
    build.table(rows)


def _paragraphs(text: str) -> Iterator[Segment]:
    start = 0
    for gap in _BLANK_LINES.finditer(text):
        if gap.start() > start:
            yield Segment(SegmentKind.PARAGRAPH, start, gap.start())
        start = gap.end()
    if start < len(text):
        yield Segment(SegmentKind.PARAGRAPH, start, len(text))
