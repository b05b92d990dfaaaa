"""Pages: a document as Markdown, in the pieces that a reader of citations knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from emberq.pipeline.document import Document, Segment, SegmentKind
from emberq.pipeline.split import HEADING_SEPARATOR
from emberq.store.files.extractions import PageRange

__all__ = ["to_markdown"]

#: Deepest heading that begins a section of a document without pages; deeper ones stay inside.
_SECTION_LEVEL: Final = 2
#: Characters of one heading kept in the path; longer ones are mostly paragraphs in a heading's style.
_HEADING_CHARS: Final = 120
#: A heading that has its marks already, because the file is Markdown.
_MARKS: Final = re.compile(r"#{1,6}(?:\s|$)")
#: Between two pages.
_PAGE_GAP: Final = "\n\n"


def to_markdown(document: Document) -> tuple[str, list[PageRange]]:
    """Write a document as Markdown.

    Headings get their marks; paragraphs and tables stay as they are, and so does what was Markdown before.

    Returns:
        The text, and where its pages stand in it: one for each page of the document that has text, and
        for formats without pages one for each section under a heading of the first two levels.
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
    """Yield each page or section: its number, its path of headings, what stands on it.

    The path is that of the headings at its beginning, or else the one that the page before ended under, or
    else that of its first heading, which may stand below a page number.
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
    """Return a heading's words without its marks."""
    line, _, _underline = document.text[segment.start : segment.end].partition("\n")
    return " ".join(line.lstrip("# ").split())[:_HEADING_CHARS].rstrip()


def _pieces(document: Document, segments: list[Segment]) -> Iterator[str]:
    """Yield the segments as Markdown, and what is between them."""
    last: Segment | None = None
    for segment in segments:
        is_heading = segment.kind is SegmentKind.HEADING
        if last is not None:
            yield document.text[last.end : segment.start]
        text = document.text[segment.start : segment.end]
        # Underlined headings have two lines.
        if is_heading and "\n" not in text and not _MARKS.match(text):
            yield f"{'#' * segment.level} "
        yield text
        last = segment
