"""PDF, read by pdfium: headings and paragraphs are found by the positions and sizes of the lines."""

from __future__ import annotations

import ctypes
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO, Final

import pypdfium2
from pypdfium2 import raw

from emberq.errors import CorruptFile, EncryptedFile
from emberq.pipeline.extract.builder import DocumentBuilder

#: A paragraph ends where the gap between two lines is more than this many times the page's usual gap.
_GAP: Final = 1.25

#: A line is a heading if its letters are more than this many times as high as those of the body.
_HEADING: Final = 1.15

#: Most characters of a heading; longer blocks in large letters are introductions or posters.
_HEADING_LENGTH: Final = 200

#: Letters have the same size if their heights differ by less than this share.
_SAME_SIZE: Final = 0.08

#: Bytes at the end that must contain `startxref`; the standard says 1,024, but writers append more.
_TAIL: Final = 64 * 1024

#: The characters that pdfium returns for a hyphen at the end of a line.
_HYPHENS: Final = "\x02\ufffe"
_HYPHEN: Final = re.compile("[\x02\ufffe]")
_LINE: Final = re.compile(r"[^\r\n]+")


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a page; `top`, `bottom` and `size` (the height of a letter) are in points, upwards."""

    text: str
    top: float
    bottom: float
    size: float


def read(stream: BinaryIO, build: DocumentBuilder, progress: Callable[[int, int], None]) -> int:
    """Read a PDF, page by page.

    Returns:
        The number of pages.

    Raises:
        CorruptFile: If the file is damaged or cut short.
        EncryptedFile: If the file needs a password.
    """
    try:
        document = pypdfium2.PdfDocument(stream)
    except pypdfium2.PdfiumError as exc:
        if exc.err_code == raw.FPDF_ERR_PASSWORD:
            raise EncryptedFile("The PDF is protected by a password.") from exc
        raise CorruptFile("The PDF is damaged: its structure cannot be read.") from exc
    with document:
        # Every PDF ends with this mark; pdfium would read the rest of a truncated file without an error.
        if b"startxref" not in _tail(stream):
            raise CorruptFile("The PDF is cut short: its end is missing.")
        count = len(document)
        if not count:
            raise CorruptFile("The PDF is damaged: it has no pages.")
        pages = []
        characters = 0
        for index in range(count):
            pages.append(_page_lines(document, index, count))
            characters += sum(len(line.text) for line in pages[-1])
            # A small file can name one page many times.
            build.meter.expect_text(characters)
            progress(index + 1, count)
    _write(pages, build)
    return count


def _tail(stream: BinaryIO) -> bytes:
    size = stream.seek(0, 2)
    stream.seek(max(0, size - _TAIL))
    return stream.read()


def _page_lines(document: pypdfium2.PdfDocument, index: int, count: int) -> list[_Line]:
    try:
        page = document[index]
    except pypdfium2.PdfiumError as exc:
        raise CorruptFile(f"Page {index + 1} of {count} of the PDF is damaged.") from exc
    try:
        content = page.get_textpage()
    except pypdfium2.PdfiumError as exc:
        raise CorruptFile(f"Page {index + 1} of {count} of the PDF is damaged.") from exc
    else:
        try:
            return list(_lines(content))
        finally:
            content.close()
    finally:
        page.close()


def _lines(content: pypdfium2.PdfTextPage) -> Iterator[_Line]:
    text = content.get_text_range()
    for match in _LINE.finditer(text):
        if not match[0].strip():
            continue
        first = match.start() + len(match[0]) - len(match[0].lstrip())
        last = match.start() + len(match[0].rstrip()) - 1
        start, end = _box(content, first), _box(content, last)
        size = max(start.top - start.bottom, end.top - end.bottom)
        yield _Line(match[0], start.top, end.bottom, size)


def _box(content: pypdfium2.PdfTextPage, index: int) -> raw.FS_RECTF:
    """Return the box of the font around the character at an index of the page's text."""
    box = raw.FS_RECTF()
    character = raw.FPDFText_GetCharIndexFromTextIndex(content, index)
    raw.FPDFText_GetLooseCharBox(content, character, ctypes.byref(box))
    return box


def _write(pages: list[list[_Line]], build: DocumentBuilder) -> None:
    sizes: Counter[float] = Counter()
    for line in (line for page in pages for line in page):
        sizes[round(line.size, 1)] += len(line.text)
    body = sizes.most_common(1)[0][0] if sizes else 0.0
    blocks = [(number, block) for number, page in enumerate(pages, 1) for block in _blocks(page)]
    larger = {round(block[0].size) for _, block in blocks if _is_heading(block, body)}
    levels = {size: level for level, size in enumerate(sorted(larger, reverse=True), 1)}
    for number, block in blocks:
        build.page = number
        if _is_heading(block, body):
            build.heading(_join(block), levels[round(block[0].size)])
        else:
            build.paragraph(_join(block))


def _blocks(lines: list[_Line]) -> Iterator[list[_Line]]:
    """Divide a page's lines where the gap is wide, the size of the letters changes, or a column ends."""
    steps = [above.bottom - line.bottom for above, line in pairwise(lines)]
    downward = [step for step in steps if step > 0]
    usual = statistics.median_low(downward) if downward else 0.0
    block = lines[:1]
    for line, step in zip(lines[1:], steps, strict=False):
        above = block[-1]
        resized = abs(line.size - above.size) > _SAME_SIZE * max(line.size, above.size)
        # The cells of a row are side by side, without a step, so they are one paragraph.
        if resized or step > _GAP * usual or step < -above.size:
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _is_heading(block: list[_Line], body: float) -> bool:
    return block[0].size > _HEADING * body and sum(len(line.text) for line in block) <= _HEADING_LENGTH


def _join(block: Iterable[_Line]) -> str:
    """Join lines, and words that are hyphenated at the end of a line."""
    text = ""
    for line in block:
        gap = "" if not text or text[-1] in _HYPHENS else "\n"
        text += gap + line.text
    return _HYPHEN.sub("", text)
