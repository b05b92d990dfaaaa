"""Plain text, which is kept unchanged, and CSV, which is read into rows."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from emberq.pipeline.document import Segment, SegmentKind
from emberq.pipeline.extract.builder import DocumentBuilder, clean
from emberq.pipeline.extract.text.decode import decode
from emberq.pipeline.extract.text.delimited import find_delimiter, is_name_of_delimiter

_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_BLANK_LINES: Final = re.compile(r"\n[^\S\n]*\n\s*")

#: Characters of a file from which its delimiter is detected.
_SAMPLE: Final = 64 * 1024


#: A character that is no text.
_CONTROL: Final = re.compile("[\0-\x08\x0e-\x1f]")
#: What terminals take as commands: colours and positions; and a character that the next one overstrikes.
_COMMANDS: Final = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|[^\n]\x08")
#: Controls that separate records and fields, or fill them.
_SEPARATORS: Final = re.compile("[\0-\x07\x0e-\x1a\x1c-\x1f]+")


def read(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read plain text; blank lines separate its paragraphs, and control characters its records."""
    text = decode(stream.read())
    if _CONTROL.search(text):
        text = _SEPARATORS.sub("\n", _COMMANDS.sub("", text))
    write_text(text, build)


def write_text(text: str, build: DocumentBuilder) -> None:
    """Append plain text to a document, unchanged."""
    text = clean(text)
    build.extend(text, _paragraphs(text))


def read_csv(stream: BinaryIO, build: DocumentBuilder, _progress: Callable[[int, int], None]) -> None:
    """Read delimited text; if it cannot be parsed, it is read as plain text."""
    text = clean(decode(stream.read()))
    sample = text if len(text) <= _SAMPLE else text[:_SAMPLE].rpartition("\n")[0]
    delimiter = find_delimiter(sample) or ","
    # Parsed twice: to keep the rows as objects would take twenty times the memory of the text.
    try:
        deque(csv.reader(_lines(text), delimiter=delimiter), maxlen=0)
    except csv.Error:
        write_text(text, build)
        return
    lines = _lines(text)
    if is_name_of_delimiter(text[: text.find("\n") + 1]):
        next(lines)
    build.table(csv.reader(lines, delimiter=delimiter))


def _lines(text: str) -> Iterator[str]:
    """Yield lines with their ends; a text file object would take four bytes per character."""
    return (line[0] for line in _LINE.finditer(text))


def _paragraphs(text: str) -> Iterator[Segment]:
    start = 0
    for gap in _BLANK_LINES.finditer(text):
        if gap.start() > start:
            yield Segment(SegmentKind.PARAGRAPH, start, gap.start())
        start = gap.end()
    if start < len(text):
        yield Segment(SegmentKind.PARAGRAPH, start, len(text))
