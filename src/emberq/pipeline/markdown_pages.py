"""Markdown pages: a document as Markdown, divided into its pages or sections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from emberq.pipeline.document import Document, Segment, SegmentKind
from emberq.pipeline.split import HEADING_SEPARATOR
from emberq.store.files.extractions import PageRange

#: Lowest level of a heading that begins a section, in a document without pages.
_SECTION_LEVEL: Final = 2
#: Most characters of one heading in the path; longer headings are mostly paragraphs in a heading's style.
_HEADING_CHARS: Final = 120
#: The marks of a heading whose file is Markdown.
_MARKS: Final = re.compile(r"#{1,6}(?:\s|$)")
#: Separates two pages.
_PAGE_GAP: Final = "\n\n"


def to_markdown(document: Document) -> tuple[str, list[PageRange]]:
    """Return a document as Markdown, and the ranges of its pages.

    Headings get Markdown's marks, unless they have them; paragraphs and tables are unchanged.

    Returns:
        The text, and a range of it for each page with text. In a format without pages, each heading of the
        first two levels begins a new range.
    """
    parts: list[str] = []
    ranges: list[PageRange] = []
    length = 0
    for page, heading, segments in _pages(document):
        if parts:
            parts.append(_PAGE_GAP)
            length += len(_PAGE_GAP)
        text = "".join(_pieces(document, segments))
        parts.append(text)
        ranges.append(PageRange(length, length + len(text), page, heading))
        length += len(text)
    return "".join(parts), ranges


def _pages(document: Document) -> Iterator[tuple[int | None, str | None, list[Segment]]]:
    """Yield the number, the heading path and the segments of each page or section.

    The path is that of the headings at its beginning. Without such headings it is the path at the end of
    the page before. If there is none either, it is that of the first heading, which may be below a page
    number.
    """
    has_pages = document.page_count is not None
    path: list[tuple[int, str]] = []
    page: list[Segment] = []
    heading: str | None = None
    only_headings = True
    for segment in document.segments:
        is_heading = segment.kind is SegmentKind.HEADING
        if has_pages:
            is_next = bool(page) and segment.page != page[-1].page
        else:
            is_next = is_heading and segment.level <= _SECTION_LEVEL and not only_headings
        if page and is_next:
            yield page[0].page, heading, page
            page, only_headings = [], True
        if is_heading:
            path = [step for step in path if step[0] < segment.level]
            path.append((segment.level, _title(document, segment)))
        if not page or only_headings or heading is None:
            heading = HEADING_SEPARATOR.join(title for _, title in path) or None
        page.append(segment)
        only_headings &= is_heading
    if page:
        yield page[0].page, heading, page


def _title(document: Document, segment: Segment) -> str:
    """Return a heading's words without Markdown's marks."""
    line, _, _underline = document.text[segment.start : segment.end].partition("\n")
    return " ".join(line.lstrip("# ").split())[:_HEADING_CHARS].rstrip()


def _pieces(document: Document, segments: list[Segment]) -> Iterator[str]:
    """Yield the segments as Markdown, and the text between them."""
    last: Segment | None = None
    for segment in segments:
        is_heading = segment.kind is SegmentKind.HEADING
        if last is not None:
            yield document.text[last.end : segment.start]
        text = document.text[segment.start : segment.end]
        # A heading of two lines is a Markdown heading with an underline.
        if is_heading and "\n" not in text and not _MARKS.match(text):
            yield f"{'#' * segment.level} "
        yield text
        last = segment
